"""Batches to try: requests of drawn tokens, adapters that do something, and what comes of them."""

from __future__ import annotations

import random

import torch

from nomoat.engine.batch import Batch, BatchOptions
from nomoat.engine.request import Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.formats.blocks import block_type
from nomoat.formats.quantize import quantize
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.linear import linears_of
from nomoat.model.load import Base


def in_blocks(base: Base, type: str = "Q8_0") -> Base:
    """The base with its matrices in blocks, where their rows are long enough, in place: before anybody uses it."""
    size = block_type(type).block_size
    for linear in linears_of(base.decoder):
        weight = linear.weight
        if weight.shape[1] % size == 0:
            weight.data, weight.type = torch.from_numpy(quantize(weight.expand().numpy(), type)), type
    return base


def busy_adapter(base: Base, seed: int, *targets: str) -> Adapter:
    config = AdapterConfig(rank=3, alpha=12, target_modules=targets or ("all-linear",))
    adapter = base.new_adapter(config, seed=seed, name=f"busy{seed}")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
    return adapter


def text(seed: int, n: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 259) for _ in range(n)]


def ask(tokens: list[int], stack: Stack = EMPTY, n: int = 6) -> Request:
    return Request(tokens, Sampling(max_tokens=n), stack)


def new_batch(base: Base, **options: object) -> Batch:
    return Batch(base, BatchOptions(**({"context": 256} | options)))  # type: ignore[arg-type]


def run(batch: Batch) -> dict[int, list[Piece]]:
    got: dict[int, list[Piece]] = {}
    while not batch.idle:
        for piece in batch.step():
            assert piece.error is None
            got.setdefault(piece.index, []).append(piece)
    return got


def one(batch: Batch, request: Request) -> list[Piece]:
    batch.add(0, request)
    return run(batch)[0]
