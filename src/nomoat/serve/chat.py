"""``POST /v1/chat/completions``."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from nomoat.engine.request import Piece
from nomoat.engine.request import Request as EngineRequest
from nomoat.model.template import prompt_ids
from nomoat.serve.answers import Answers, answered
from nomoat.serve.body import read_body
from nomoat.serve.desk import Desk, Prompt, Tally, aside, engine_requests, fit_prompt, new_id, reply_head, usage
from nomoat.serve.errors import RequestError
from nomoat.serve.events import sse
from nomoat.serve.fields import MAX_TOP_LOGPROBS, SamplingFields
from nomoat.serve.forms import ResponseFormat, grammar_for
from nomoat.serve.grammar import Grammar
from nomoat.serve.logprobs import Scored, chat_logprobs
from nomoat.serve.messages import Messages, plain_messages
from nomoat.serve.shelf import Outfit
from nomoat.serve.tool_calls import Call, CallReader
from nomoat.serve.tools import (
    MAX_TOOLS,
    Format,
    Tool,
    ToolChoice,
    call_schema,
    chosen_tools,
    format_of,
    must_call,
    with_tools,
)


class ChatBody(SamplingFields):
    messages: Messages
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = True
    response_format: ResponseFormat | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """A chat request, ready for the engine. ``tools`` are those that may be called."""

    body: ChatBody
    outfit: Outfit
    prompt: Prompt
    tools: list[Tool]
    form: Format
    requests: list[EngineRequest]

    def reader(self) -> CallReader | None:
        """What tells calls from text in one answer; None where no call can come."""
        return CallReader(self.form, [tool.function.name for tool in self.tools]) if self.tools else None


def routes(desk: Desk) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(http: Request) -> Response:
        body = await read_body(http, ChatBody)
        outfit = await desk.outfit(body)
        talk = await aside(prepare, desk, body, outfit)
        stream = partial(_stream, talk) if body.stream else None
        return await answered(http, desk, talk.requests, stream, partial(_whole, talk))

    return router


def prepare(desk: Desk, body: ChatBody, outfit: Outfit) -> Conversation:
    """Render, tokenize and check. Raises ``RequestError`` and ``TemplateError``."""
    template = outfit.base.template
    choice = body.tool_choice or ("auto" if body.tools else "none")
    tools, form = chosen_tools(body.tools or [], choice), format_of(template)
    messages, shown = with_tools(plain_messages(body.messages), tools, template)
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    ids = prompt_ids(outfit.base.tokenizer, template, messages, shown)
    prompt = fit_prompt(ids, body, desk.context, limit)
    grammar = grammar_for(desk.grammars, body.response_format, body.structured_outputs)
    if must_call(choice):
        if grammar is not None:
            raise RequestError("a required call and a form for the answer exclude each other", param="tool_choice")
        grammar = desk.grammars.json_schema(call_schema(tools, form))
    return Conversation(body, outfit, prompt, tools, form, _requests(desk, body, outfit, prompt, limit, grammar))


def _requests(
    desk: Desk, body: ChatBody, outfit: Outfit, prompt: Prompt, limit: int | None, grammar: Grammar | None
) -> list[EngineRequest]:
    if body.top_logprobs and not body.logprobs:
        raise RequestError("'top_logprobs' needs 'logprobs': true", param="top_logprobs")
    top = body.top_logprobs or 0
    return engine_requests(desk, outfit, prompt, body, max_tokens=limit, top_logprobs=top, grammar=grammar)


async def _whole(talk: Conversation, answers: Answers) -> dict[str, Any]:
    tallies = [Tally() for _ in talk.requests]
    async for number, piece in answers:
        tallies[number].add(piece)
    return {
        **reply_head("chatcmpl", "chat.completion", talk.outfit.name),
        "choices": [_choice(talk, number, tally) for number, tally in enumerate(tallies)],
        "usage": usage([talk.prompt], tallies),
    }


def _choice(talk: Conversation, number: int, tally: Tally) -> dict[str, Any]:
    text, calls = read_answer(talk, tally.text)
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = [call_entry(call) for call in calls]
    return {
        "index": number,
        "message": message,
        "logprobs": chat_logprobs(talk.outfit.base.tokenizer, tally.scored) if talk.body.logprobs else None,
        "finish_reason": "tool_calls" if calls else tally.finish_reason,
    }


def read_answer(talk: Conversation, whole: str) -> tuple[str, list[Call]]:
    """The text and the calls of an answer that is complete."""
    reader = talk.reader()
    if reader is None:
        return whole, []
    text = reader.push(whole)
    rest, calls = reader.finish()
    return text + rest, calls if talk.body.parallel_tool_calls is not False else calls[:1]


def call_entry(call: Call) -> dict[str, Any]:
    """A call as OpenAI writes it."""
    return {"id": new_id("call"), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


async def _stream(talk: Conversation, answers: Answers) -> AsyncIterator[bytes]:
    chunks = _Chunks(talk)
    for number in range(len(talk.requests)):
        yield chunks.opening(number)
    async for number, piece in answers:
        for chunk in chunks.take(number, piece):
            yield chunk
    if talk.body.wants_usage:
        yield chunks.usage()


class _Chunks:
    """The chunks of one streamed reply."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self._head = dict(reply_head("chatcmpl", "chat.completion.chunk", talk.outfit.name))
        self._tallies = [Tally() for _ in talk.requests]
        self._readers = [talk.reader() for _ in talk.requests]

    def opening(self, number: int) -> bytes:
        return self._chunk(number, {"role": "assistant", "content": ""})

    def take(self, number: int, piece: Piece) -> list[bytes]:
        tally, reader = self._tallies[number], self._readers[number]
        tally.add(piece)
        text = piece.text if reader is None else reader.push(piece.text)
        calls: list[Call] = []
        if piece.finish_reason is not None and reader is not None:
            rest, calls = reader.finish()
            text += rest
        found = []
        if text or (self._talk.body.logprobs and tally.scored):
            found.append(self._chunk(number, {"content": text}, scored=tally.scored))
            tally.scored = []
        if calls:
            kept = calls if self._talk.body.parallel_tool_calls is not False else calls[:1]
            entries = [{"index": place, **call_entry(call)} for place, call in enumerate(kept)]
            found.append(self._chunk(number, {"tool_calls": entries}))
        if piece.finish_reason is not None:
            found.append(self._chunk(number, {}, reason="tool_calls" if calls else tally.finish_reason))
        return found

    def usage(self) -> bytes:
        return sse({**self._head, "choices": [], "usage": usage([self._talk.prompt], self._tallies)})

    def _chunk(
        self, number: int, delta: dict[str, Any], *, scored: list[Scored] | None = None, reason: str | None = None
    ) -> bytes:
        words = self._talk.outfit.base.tokenizer
        logprobs = chat_logprobs(words, scored) if self._talk.body.logprobs and scored else None
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        more = {"usage": None} if self._talk.body.wants_usage else {}
        return sse({**self._head, "choices": [choice], **more})
