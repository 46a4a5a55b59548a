// The blind arena: one match at a time. What this page knows before the vote is a key and two texts.

import { call, events } from "./stream.js";
import { at, element, fill } from "./text.js";

const SIDES = ["left", "right"];
const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", t: "tie", b: "both_bad" };
const SAID = { left: "1 is better", right: "2 is better", tie: "a tie", both_bad: "both bad" };
let questions = 0;
let match = null; // {key, whole} of what is shown, whole once both have answered; {vote} once it is voted on
let stage = "ask"; // ask, writing, vote, sending, told

function say(text, bad = false) {
  at("status").textContent = text;
  at("below").classList.toggle("bad", bad);
}

function complain(error) {
  say(error.status === 401 ? "Open the link that you were given: it carries your key." : error.message, true);
}

function showState(state) {
  questions = state.questions;
  at("who").textContent = state.voter === "me" ? "" : `voting as ${state.voter}`;
  const votes = `${state.votes} vote${state.votes === 1 ? "" : "s"}`;
  const mine = state.mine < state.votes ? `, ${state.mine} of them yours` : "";
  at("progress").textContent = `${votes}${mine}. ${state.progress}`;
}

function go(to) {
  stage = to;
  at("voting").hidden = to !== "vote";
  at("further").hidden = Boolean(match?.vote);
  at("going").hidden = to !== "ask" && to !== "told";
  at("again").hidden = to !== "told" || !match?.vote;
  at("next").hidden = !questions;
}

const pane = (side, part) => at(side).querySelector(part);

function clear() {
  at("intro").hidden = true;
  at("asked").hidden = at("answers").hidden = false;
  at("note").value = at("more").value = "";
  document.querySelector("main").scrollTop = 0;
  for (const side of SIDES) {
    at(side).className = "";
    for (const part of [".name", ".turns", ".facts"]) pane(side, part).textContent = "";
  }
}

// A turn of the talk: what the user says, but for the question above, and room for an answer on either side.
function openTurn(said) {
  settle();
  for (const side of SIDES) {
    if (said) pane(side, ".turns").append(element("p", "turn text", said));
    pane(side, ".turns").append(element("div", "answer text waiting"));
  }
}

const answer = (side) => pane(side, ".answer:last-child");

function settle() {
  for (const waiting of document.querySelectorAll(".waiting")) {
    if (!waiting.textContent.trim()) fill(waiting, "(no answer)");
    waiting.classList.remove("waiting");
  }
}

// The match

async function ask(prompt) {
  if (stage === "writing" || stage === "sending") return;
  at("next-text").textContent = "Next question";
  match = {};
  try {
    await write("/arena/match", prompt === undefined ? {} : { prompt }, clear);
  } catch (error) {
    complain(error);
    match = null;
    go("ask");
  }
  settle();
}

async function further(prompt) {
  const before = SIDES.map((side) => pane(side, ".turns").childElementCount);
  try {
    await write("/arena/turn", { key: match.key, prompt }, () => { match.whole = false; });
    at("more").value = "";
  } catch (error) {
    SIDES.forEach((side, number) => {
      for (const part of [...pane(side, ".turns").children].slice(before[number])) part.remove();
    });
    complain(error);
    go(error.status === 404 ? "ask" : "vote"); // what both said before can still be voted on
  }
  settle();
}

async function write(path, body, begin) {
  go("writing");
  say("Both are writing.");
  let texts;
  const reply = await call(path, body);
  begin();
  at("answers").focus({ preventScroll: true });
  for await (const data of events(reply.body)) {
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    if (event.key) {
      match = { key: event.key };
      at("question").textContent = event.prompt.map((message) => message.content).join("\n\n");
    }
    if (event.key || event.turn) {
      openTurn(event.turn ? event.prompt : "");
      texts = { left: "", right: "" };
    }
    for (const side of SIDES) {
      if (event[side]) fill(answer(side), (texts[side] += event[side]));
    }
    if (event.whole) match.whole = true;
  }
  if (!match.whole) throw new Error("the server stopped in the middle");
  settle();
  say("Which is better?");
  go("vote");
}

async function vote(verdict) {
  if (stage !== "vote") return;
  go("sending");
  const body = { verdict, note: at("note").value };
  try {
    const reply = await call("/arena/vote", match.vote ? { ...body, replaces: match.vote } : { ...body, key: match.key });
    reveal(verdict, await reply.json());
  } catch (error) {
    complain(error);
    go(error.status === 404 ? "ask" : "vote");
  }
}

function reveal(verdict, told) {
  const changed = Boolean(match.vote);
  match = { vote: told.vote };
  for (const side of SIDES) {
    pane(side, ".name").textContent = told[side];
    at(side).classList.toggle("chosen", verdict === side);
    const cost = told.costs?.[side];
    if (cost) pane(side, ".facts").textContent = `${cost.tokens} tokens · ${cost.seconds} s beside the other`;
  }
  showState(told.state);
  say(`Kept: ${SAID[verdict]}${changed ? ". The first vote stays on record" : ""}.`);
  go("told");
  if (questions) at("next").focus(); else at("own").focus();
}

// The controls

for (const button of document.querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", () => vote(button.dataset.verdict));
}
at("next").addEventListener("click", () => ask());
at("again").addEventListener("click", () => {
  say("The names are known now: the first vote stays on record beside the new one.");
  go("vote");
  at("answers").focus();
});
at("asking").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("own").value.trim();
  if (text) { at("own").value = ""; ask(text); }
});
at("further").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("more").value.trim();
  if (text && stage === "vote" && !match.vote) further(text);
});
at("own").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("asking").requestSubmit();
  }
});
at("note").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); at("answers").focus(); }
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const verdict = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (verdict && stage === "vote") { event.preventDefault(); vote(verdict); }
  const field = { n: "note", f: "more" }[event.key.toLowerCase()];
  if (field && stage === "vote" && !at(field).closest("[hidden]")) { event.preventDefault(); at(field).focus(); }
  if (event.key === "Enter" && !event.target.closest("a, button") && !at("next").hidden && !at("going").hidden) ask();
});

call("/arena/state").then((reply) => reply.json()).then((state) => { showState(state); go("ask"); }).catch(complain);
