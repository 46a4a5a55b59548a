"""Adapters put on offer and taken away while the server runs: vLLM's two endpoints and llama-server's one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, TypeAdapter, ValidationError

from nomoat.serve.body import parse_any, read_body, read_bytes
from nomoat.serve.desk import Desk, aside
from nomoat.serve.errors import RequestError
from nomoat.serve.fields import Fields, LoraScale

Name = Annotated[str, Field(min_length=1, max_length=100)]


class LoadBody(Fields):
    """vLLM's. ``lora_path``: a name in the store, or a folder in one that the owner allows; the name when left out."""

    lora_name: Name
    lora_path: Annotated[str, Field(max_length=4096)] = ""


class UnloadBody(Fields):
    lora_name: Name


def routes(desk: Desk) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.post("/v1/load_lora_adapter")
    async def load(http: Request) -> Response:
        body = await read_body(http, LoadBody)
        await aside(desk.shelf.load, body.lora_name, body.lora_path)
        return JSONResponse({"status": "loaded", "id": body.lora_name})

    @router.post("/v1/unload_lora_adapter")
    async def unload(http: Request) -> Response:
        body = await read_body(http, UnloadBody)
        await aside(desk.shelf.unload, body.lora_name)
        return JSONResponse({"status": "unloaded", "id": body.lora_name})

    @router.get("/lora-adapters")
    async def scales() -> list[dict[str, Any]]:
        return await aside(_scales, desk)

    @router.post("/lora-adapters")
    async def set_scales(http: Request) -> list[dict[str, Any]]:
        """What requests wear that name no model; adapters that are not listed are off."""
        try:
            wanted = TypeAdapter(list[LoraScale]).validate_python(parse_any(await read_bytes(http)))
        except ValidationError as error:
            raise RequestError(f"a list of {{id, scale}} is needed: {error.errors()[0]['msg']}") from None
        await aside(desk.shelf.set_default, {one.id: one.scale for one in wanted})
        return await aside(_scales, desk)

    return router


def _scales(desk: Desk) -> list[dict[str, Any]]:
    worn = {part.adapter: part.weight for part in desk.shelf.default}
    return [
        {"id": number, "name": name, "path": str(desk.shelf.folder(name)), "scale": worn.get(name, 0.0)}
        for number, name in enumerate(desk.shelf.names())
    ]
