"""``/v1/models``, ``/health``, ``/metrics``, ``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from nomoat.engine.generate import text_ids
from nomoat.model.template import prompt_ids
from nomoat.serve.body import read_body
from nomoat.serve.desk import Desk, aside
from nomoat.serve.fields import Fields, SamplingFields, Text
from nomoat.serve.messages import Messages, plain_messages


class TokenizeBody(SamplingFields):
    prompt: Text | None = None
    content: Text | None = None  # llama-server's name for it
    messages: Messages | None = None
    add_special_tokens: bool = True


class DetokenizeBody(Fields):
    tokens: Annotated[list[int], Field(max_length=1 << 20)]


def routes(desk: Desk) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": await aside(listing, desk)}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        outfit = await aside(desk.shelf.outfit, name)
        known = [one for one in await aside(listing, desk) if one["id"] == name]
        return known[0] if known else _entry(desk, outfit.name, parent=desk.shelf.base.name, root=outfit.name)

    @router.get("/health")
    async def health() -> Response:
        failed = desk.service.stats().failed
        return JSONResponse(
            {"status": "error", "reason": failed} if failed else {"status": "ok"}, 503 if failed else 200
        )

    @router.get("/metrics")
    async def metrics() -> Response:
        text, kind = desk.metrics.text()
        return Response(text, media_type=kind)

    @router.post("/tokenize")
    async def tokenize(http: Request) -> dict[str, Any]:
        body = await read_body(http, TokenizeBody)
        tokens = await aside(_tokens, desk, body)
        return {"tokens": tokens, "count": len(tokens), "max_model_len": desk.context}

    @router.post("/detokenize")
    async def detokenize(http: Request) -> dict[str, Any]:
        body = await read_body(http, DetokenizeBody)
        text = await aside(desk.shelf.base.tokenizer.decode, body.tokens)
        return {"prompt": text, "content": text}

    return router


def _tokens(desk: Desk, body: TokenizeBody) -> list[int]:
    base = desk.shelf.outfit(body.model).base
    if body.messages is not None:
        return prompt_ids(base.tokenizer, base.template, plain_messages(body.messages))
    text = body.prompt if body.prompt is not None else body.content or ""
    return text_ids(base, text) if body.add_special_tokens else base.tokenizer.encode(text)


def listing(desk: Desk) -> list[dict[str, Any]]:
    """Every model on offer: the base, its adapters, and the stacks that have names. ``root`` and ``parent`` as vLLM."""
    shelf = desk.shelf
    base = shelf.base.name
    rows = [_entry(desk, base, parent=None, root=str(shelf.base.path))]
    if shelf.default:
        rows.append(_entry(desk, shelf.spelled(shelf.default), parent=base, root=shelf.spelled(shelf.default)))
    rows += [_entry(desk, name, parent=base, root=shelf.spelled(parts)) for name, parts in shelf.stacks.items()]
    for name in shelf.names():
        folder = shelf.folder(name)
        rows.append(_entry(desk, name, parent=base, root=str(folder), created=int(folder.stat().st_mtime)))
    return rows


def _entry(desk: Desk, name: str, *, parent: str | None, root: str, created: int | None = None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created or desk.started,
        "owned_by": "nomoat",
        "root": root,
        "parent": parent,
        "max_model_len": desk.context,
    }
