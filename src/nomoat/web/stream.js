// A chat completion as an asynchronous sequence: {text} while it comes, {usage} at its end.

export async function* streamChat(body, { key, signal }) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const reply = await fetch("/v1/chat/completions", {
    method: "POST",
    headers,
    signal,
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  if (!reply.ok) throw await refusal(reply);
  for await (const data of events(reply.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.usage) yield { usage: chunk.usage };
    for (const choice of chunk.choices) {
      if (choice.delta.content) yield { text: choice.delta.content };
      if (choice.finish_reason) yield { reason: choice.finish_reason };
    }
  }
}

export async function listModels(key) {
  const reply = await fetch("/v1/models", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  if (!reply.ok) throw await refusal(reply);
  return (await reply.json()).data;
}

// The reply; what the server refuses is thrown in its own words.
export async function call(path, body, method = body ? "POST" : "GET") {
  const sent = body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(path, { method, ...sent });
  if (!reply.ok) throw await refusal(reply);
  return reply;
}

async function refusal(reply) {
  const value = await reply.json().catch(() => null);
  const error = new Error(value?.error?.message ?? `the server answered ${reply.status}`);
  error.status = reply.status;
  return error;
}

// The data of server-sent events. An event may arrive in pieces, and a character too.
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    pending += value;
    const whole = pending.split("\n\n");
    pending = whole.pop();
    for (const event of whole) {
      const lines = event.split("\n").filter((line) => line.startsWith("data: "));
      if (lines.length) yield lines.map((line) => line.slice(6)).join("\n");
    }
  }
}
