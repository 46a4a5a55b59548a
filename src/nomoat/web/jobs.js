// Long work of this server: started here, told as server-sent events, by whoever started it.

import { call, events } from "./stream.js";
import { at, element } from "./text.js";

const DONE = { answers: ({ answers }) => `${answers} answers are written: nobody waits for them any more.`, exam: sentence };

function sentence({ judge, passed, pairs, voters }) {
  const among = voters ? ` The voters agree with each other on ${percent(voters.share.value)} of ${voters.questions} questions.` : "";
  return `${judge} ${passed ? "passed" : "failed"} its exam on ${pairs} votes.${among}`;
}

function say(text, bad = false) {
  at("status").textContent = text;
  at("below").classList.toggle("bad", bad);
}

function complain(error) {
  say(error.status === 401 ? "Open the link that you were given: it carries your key." : error.message, true);
}

function show(state) {
  at("stop").hidden = !state.running;
  const place = at("kinds"); // the buttons stay when the state changes, or the keyboard's place would be lost
  if (!place.children.length) {
    place.append(...state.kinds.map(({ kind, words }) => {
      const button = element("button", "", words);
      button.addEventListener("click", () => start(kind));
      return button;
    }));
  }
  for (const button of place.children) button.disabled = state.running;
  if (!state.kinds.length) say("There is no work here: give questions with --data, or a judge with --judge.");
}

const percent = (value) => `${Math.round(100 * value)}\u202f%`;

function table(parts) {
  const rows = parts.map((part) => {
    const { value, low, high } = part.share;
    const row = element("tr", "");
    const name = element("th", "", part.name);
    name.scope = "row";
    name.append(element("span", "", part.passed ? part.summary : part.remedy));
    const share = element("td", "", percent(value));
    share.append(element("span", "", `${percent(low)} to ${percent(high)}`));
    row.append(name, share);
    row.append(part.passed ? element("td", "", "passed") : element("td", "bad", "failed"));
    return row;
  });
  at("parts").replaceChildren(...rows);
  at("result").hidden = !rows.length;
}

function tell(record) {
  at("status").ariaBusy = String(record.record === "progress"); // who listens is told the end, not every step
  if (record.record === "progress") {
    at("bar").hidden = false;
    at("bar").max = record.total ?? 1;
    at("bar").value = record.done;
    say(`${record.stage}: ${record.done} of ${record.total ?? "?"} ${record.unit}`);
  } else if (record.record === "note") {
    at("notes").append(element("li", record.warning ? "bad" : "", record.text));
  } else if (record.record === "error") {
    say(record.message, true);
  } else if (record.record === "done") {
    say(DONE[record.what](record.result));
    table(record.result.parts ?? []);
    if (record.result.parts) at("notes").replaceChildren(); // the table says it part by part
  }
}

async function follow() {
  at("notes").replaceChildren();
  at("result").hidden = true;
  const reply = await call("/jobs/events");
  for await (const data of events(reply.body)) tell(JSON.parse(data));
  at("bar").hidden = true;
  show(await (await call("/jobs")).json());
}

async function start(kind) {
  try {
    show(await (await call(`/jobs/${kind}`, {})).json());
    await follow();
  } catch (error) {
    complain(error);
  }
}

at("stop").addEventListener("click", () => call("/jobs", undefined, "DELETE").catch(complain));

call("/jobs").then((reply) => reply.json()).then((state) => {
  show(state);
  return state.job ? follow() : undefined;
}).catch(complain);
