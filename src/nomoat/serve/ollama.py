"""Ollama's API, so that tools which speak nothing else work: chat, generate, tags, show, ps, version."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

import nomoat
from nomoat.engine.request import Piece
from nomoat.engine.request import Request as EngineRequest
from nomoat.serve.answers import Answers, answered
from nomoat.serve.body import read_body
from nomoat.serve.chat import prepare
from nomoat.serve.completions import prepare as prepare_completion
from nomoat.serve.desk import Desk, Tally, aside
from nomoat.serve.events import OLLAMA, ndjson
from nomoat.serve.ollama_body import ChatRequest, GenerateRequest, ShowRequest, chat_of, chat_of_prompt, completion_of
from nomoat.serve.ollama_models import shown, tags
from nomoat.serve.tool_calls import Call, CallReader


def routes(desk: Desk) -> APIRouter:
    """The endpoints."""
    router = APIRouter()
    _add_answers(router, desk)
    _add_models(router, desk)
    return router


def _add_answers(router: APIRouter, desk: Desk) -> None:
    """What generates."""

    @router.post("/api/chat")
    async def chat(http: Request) -> Response:
        body = await read_body(http, ChatRequest)
        inner = chat_of(body)
        talk = await aside(prepare, desk, inner, await desk.outfit(inner))
        reply = Reply(body.model, len(talk.prompt.tokens), talk.reader(), in_messages=True)
        return await _answered(desk, http, reply, talk.requests, stream=body.stream is not False)

    @router.post("/api/generate")
    async def generate(http: Request) -> Response:
        body = await read_body(http, GenerateRequest)
        if not body.prompt:  # how clients ask for a model to be loaded
            await aside(desk.shelf.outfit, body.model)
            return JSONResponse({"model": body.model, "created_at": _now(), "response": "", "done": True})
        read, requests = await _of_prompt(desk, body)
        reply = Reply(body.model, read, None, in_messages=False)
        return await _answered(desk, http, reply, requests, stream=body.stream is not False)


async def _of_prompt(desk: Desk, body: GenerateRequest) -> tuple[int, list[EngineRequest]]:
    """The prompt's length in tokens and the requests: of the text as it stands with ``raw``, else of a chat with it."""
    if body.raw:
        raw = completion_of(body)
        work = await aside(prepare_completion, desk, raw, await desk.outfit(raw))
        return len(work.prompts[0].tokens), work.requests
    inner = chat_of_prompt(body)
    talk = await aside(prepare, desk, inner, await desk.outfit(inner))
    return len(talk.prompt.tokens), talk.requests


def _add_models(router: APIRouter, desk: Desk) -> None:
    """What tells of the models and of the server."""

    @router.get("/api/tags")
    async def all_tags() -> dict[str, Any]:
        return {"models": await aside(tags, desk)}

    @router.get("/api/ps")
    async def running() -> dict[str, Any]:
        return {"models": (await aside(tags, desk))[:1]}

    @router.post("/api/show")
    async def show(http: Request) -> dict[str, Any]:
        body = await read_body(http, ShowRequest)
        return await aside(shown, desk, body.model or body.name)

    @router.get("/api/version")
    async def version() -> dict[str, str]:
        return {"version": nomoat.__version__}


class Reply:
    """One answer as Ollama writes it: lines while it comes, the last one with counts and times in nanoseconds."""

    def __init__(self, model: str, prompt_tokens: int, reader: CallReader | None, *, in_messages: bool) -> None:
        self._model, self._prompt_tokens, self._reader = model, prompt_tokens, reader
        self._in_messages = in_messages
        self._tally, self._started, self._first = Tally(), time.perf_counter_ns(), 0

    def take(self, piece: Piece) -> tuple[str, list[Call]]:
        """The text that is certain with this piece, and the calls that are whole."""
        self._first = self._first or time.perf_counter_ns()
        self._tally.add(piece)
        if self._reader is None:
            return piece.text, []
        text = self._reader.push(piece.text)
        if piece.finish_reason is None:
            return text, []
        rest, calls = self._reader.finish()
        return text + rest, calls

    def line(self, text: str, calls: list[Call], *, done: bool) -> dict[str, Any]:
        head = {"model": self._model, "created_at": _now()}
        return {**head, **self._fields(text, calls), "done": done, **(self._counts() if done else {})}

    def _fields(self, text: str, calls: list[Call]) -> dict[str, Any]:
        if not self._in_messages:
            return {"response": text}
        entries = [{"function": {"name": call.name, "arguments": json.loads(call.arguments)}} for call in calls]
        return {"message": {"role": "assistant", "content": text, **({"tool_calls": entries} if entries else {})}}

    def _counts(self) -> dict[str, Any]:
        now = time.perf_counter_ns()
        return {
            "done_reason": self._tally.finish_reason,
            "total_duration": now - self._started,
            "load_duration": 0,
            "prompt_eval_count": self._prompt_tokens,
            "prompt_eval_duration": self._first - self._started,
            "eval_count": self._tally.tokens,
            "eval_duration": now - self._first,
        }


async def _answered(
    desk: Desk, http: Request, reply: Reply, requests: list[EngineRequest], *, stream: bool
) -> Response:
    told = partial(_stream, reply) if stream else None
    return await answered(http, desk, requests, told, partial(_whole, reply), wire=OLLAMA)


async def _whole(reply: Reply, answers: Answers) -> dict[str, Any]:
    said, called = "", list[Call]()
    async for _, piece in answers:
        text, calls = reply.take(piece)
        said, called = said + text, called + calls
    return reply.line(said, called, done=True)


async def _stream(reply: Reply, answers: Answers) -> AsyncIterator[bytes]:
    async for _, piece in answers:
        text, calls = reply.take(piece)
        if text or calls:
            yield ndjson(reply.line(text, calls, done=False))
    yield ndjson(reply.line("", [], done=True))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
