"""``POST /v1/responses``: OpenAI's newer API over the same chat. It keeps nothing between requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from nomoat.serve.answers import Answers, answered
from nomoat.serve.body import read_body
from nomoat.serve.chat import Conversation, prepare, read_answer
from nomoat.serve.desk import Desk, Tally, aside, new_id
from nomoat.serve.errors import openai_body
from nomoat.serve.events import SSE_TYPE, Wire, sse
from nomoat.serve.responses_body import ResponsesBody, chat_body
from nomoat.serve.tool_calls import Call


def routes(desk: Desk) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/responses")
    async def responses(http: Request) -> Response:
        body = await read_body(http, ResponsesBody)
        chat = chat_body(body)
        talk = await aside(prepare, desk, chat, await desk.outfit(chat))
        reply = Reply(body, talk)
        event = _Events()
        stream = partial(_stream, reply, event) if body.stream else None
        wire = Wire(SSE_TYPE, lambda error: event("error", **openai_body(error)["error"]))
        return await answered(http, desk, talk.requests, stream, partial(_whole, reply), wire=wire)

    return router


class Reply:
    """One response object as it grows."""

    def __init__(self, body: ResponsesBody, talk: Conversation) -> None:
        self.talk, self.tally = talk, Tally()
        self.message_id = new_id("msg")
        self._body, self._id, self._created = body, new_id("resp"), int(time.time())

    def message(self, text: str, status: str) -> dict[str, Any]:
        content = [text_part(text)] if text or status != "in_progress" else []
        return {"id": self.message_id, "type": "message", "role": "assistant", "status": status, "content": content}

    def value(self, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
        """The object; ``usage`` stands in it once it is complete."""
        body, cut = self._body, status == "incomplete"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self.talk.outfit.name,
            "output": output,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "text": {"format": (body.text or {}).get("format") or {"type": "text"}},
            "truncation": body.truncation or "disabled",
            "metadata": body.metadata or {},
            "usage": None if status == "in_progress" else self._usage(),
        }

    def output(self, text: str, calls: list[Call]) -> list[dict[str, Any]]:
        """The items of a complete answer."""
        said = [self.message(text, "completed")] if text or not calls else []
        return said + [_call_item(call) for call in calls]

    @property
    def status(self) -> str:
        return "completed" if self.tally.finish_reason == "stop" else "incomplete"

    def _usage(self) -> dict[str, Any]:
        read, written = len(self.talk.prompt.tokens), self.tally.tokens
        details: dict[str, int] = {"cached_tokens": self.tally.cached_tokens}
        if self.talk.prompt.truncated:
            details["truncated_tokens"] = self.talk.prompt.truncated
        return {
            "input_tokens": read,
            "input_tokens_details": details,
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }


def text_part(text: str) -> dict[str, Any]:
    """A part of a message's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(call: Call) -> dict[str, Any]:
    return {
        "id": new_id("fc"),
        "type": "function_call",
        "status": "completed",
        "call_id": new_id("call"),
        "name": call.name,
        "arguments": call.arguments,
    }


async def _whole(reply: Reply, answers: Answers) -> dict[str, Any]:
    async for _, piece in answers:
        reply.tally.add(piece)
    return reply.value(reply.output(*read_answer(reply.talk, reply.tally.text)), reply.status)


class _Events:
    """Numbered events."""

    def __init__(self) -> None:
        self._number = -1

    def __call__(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return sse({"type": kind, "sequence_number": self._number, **fields}, event=kind)


async def _stream(reply: Reply, event: _Events, answers: Answers) -> AsyncIterator[bytes]:
    yield event("response.created", response=reply.value([], "in_progress"))
    yield event("response.in_progress", response=reply.value([], "in_progress"))
    place = {"item_id": reply.message_id, "output_index": 0, "content_index": 0}
    reader, said, calls = reply.talk.reader(), "", list[Call]()
    async for _, piece in answers:
        reply.tally.add(piece)
        text = piece.text if reader is None else reader.push(piece.text)
        if piece.finish_reason is not None and reader is not None:
            rest, calls = reader.finish()
            text += rest
        if text and not said:
            yield event("response.output_item.added", output_index=0, item=reply.message("", "in_progress"))
            yield event("response.content_part.added", **place, part=text_part(""))
        if text:
            said += text
            yield event("response.output_text.delta", **place, delta=text, logprobs=[])
    output = reply.output(said, calls)
    if said:
        yield event("response.output_text.done", **place, text=said, logprobs=[])
        yield event("response.content_part.done", **place, part=text_part(said))
    for number, item in enumerate(output):
        if item["type"] == "function_call":
            call = {"item_id": item["id"], "output_index": number}
            opened = {**item, "status": "in_progress", "arguments": ""}
            yield event("response.output_item.added", output_index=number, item=opened)
            yield event("response.function_call_arguments.delta", **call, delta=item["arguments"])
            yield event("response.function_call_arguments.done", **call, arguments=item["arguments"], name=item["name"])
        elif not said:
            yield event("response.output_item.added", output_index=number, item=reply.message("", "in_progress"))
        yield event("response.output_item.done", output_index=number, item=item)
    kind = "response.completed" if reply.status == "completed" else "response.incomplete"
    yield event(kind, response=reply.value(output, reply.status))
