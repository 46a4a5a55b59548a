"""``POST /v1/embeddings``: the mean of the last hidden states under the stack, of length 1."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, Request
from pydantic import Field
from torch import Tensor

from nomoat.engine.generate import text_ids
from nomoat.serve.body import read_body
from nomoat.serve.desk import Desk, aside
from nomoat.serve.errors import RequestError
from nomoat.serve.fields import Fields, Text
from nomoat.serve.shelf import Outfit

MAX_INPUTS = 1024
Ids = Annotated[list[int], Field(min_length=1)]


class EmbeddingBody(Fields):
    model: str | None = None
    input: (
        Text
        | Ids
        | Annotated[list[Text], Field(max_length=MAX_INPUTS)]
        | Annotated[list[Ids], Field(max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None


def routes(desk: Desk) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embeddings(http: Request) -> dict[str, Any]:
        body = await read_body(http, EmbeddingBody)
        outfit = await aside(desk.shelf.outfit, body.model)
        texts = await aside(_ids, desk, body, outfit)
        vectors = await aside(desk.service.embed, texts, outfit.worn)  # (n, D)
        data = [_entry(row, place, body) for place, row in enumerate(_cut(vectors, body.dimensions))]
        read = sum(map(len, texts))
        usage = {"prompt_tokens": read, "total_tokens": read}
        return {"object": "list", "data": data, "model": outfit.name, "usage": usage}

    return router


def _ids(desk: Desk, body: EmbeddingBody, outfit: Outfit) -> list[list[int]]:
    given: Any = body.input
    each = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    texts = [text_ids(outfit.base, one) if isinstance(one, str) else one for one in each]
    size = outfit.base.decoder.config.vocab_size
    for place, ids in enumerate(texts):
        if not ids:
            raise RequestError(f"input.{place} is empty", param="input")
        if len(ids) > desk.context:
            raise RequestError(
                f"input.{place} has {len(ids):,} tokens; the context holds {desk.context:,}",
                param="input",
                code="context_length_exceeded",
            )
        if not all(0 <= token < size for token in ids):
            raise RequestError(f"input.{place} holds a token id that is not below {size:,}", param="input")
    return texts


def _cut(vectors: Tensor, dimensions: int | None) -> Tensor:
    """The first ``dimensions`` of each vector (n, D), of length 1 again."""
    if dimensions is None:
        return vectors
    if dimensions > vectors.shape[1]:
        raise RequestError(f"'dimensions' is {dimensions}; the model has {vectors.shape[1]}", param="dimensions")
    return torch.nn.functional.normalize(vectors[:, :dimensions], dim=1)


def _entry(row: Tensor, place: int, body: EmbeddingBody) -> dict[str, Any]:
    values = row.float().contiguous()
    packed = body.encoding_format == "base64"
    vector = base64.b64encode(values.numpy().astype("<f4").tobytes()).decode() if packed else values.tolist()
    return {"object": "embedding", "index": place, "embedding": vector}
