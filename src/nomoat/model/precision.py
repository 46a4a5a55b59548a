"""Which arithmetic training uses: the exact blocks in float32, rounded to bfloat16, or an int8 copy of the matrices.

Only products of which a gradient may be wanted change. Evaluation and generation run without gradients, so they stay on
the exact blocks whatever is chosen here.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from nomoat.model.cache import Layout
from nomoat.model.decoder import Decoder
from nomoat.model.frozen import Bfloat16Choice, Int8Choice
from nomoat.model.linear import linears_of, watched

KEPT: Final = 16  # columns of each matrix that stay float32; with 8, SmolLM2's cosine falls to 0.95 on some rows
HEAD_BYTES: Final = 300e6  # what the copies of a head may take
_HEAD_GROUP: Final = 128  # columns under one scale in the head: its rounding changes little, its size much
_HEAD_COPY_BYTES: Final = 1.08  # of memory for a weight of the head and a direction, scales and all
_COPY_BYTES: Final = 2.5  # of memory for a weight of a layer, both directions, scales and kept columns
_SEGMENTS: Final = 8  # of random tokens; the first token of each draws the largest activations of a model
_LENGTH: Final = 16


def use_int8(
    decoder: Decoder, *, first: int | None, kept: int = KEPT, lowest_layer: int = 0, head: bool = True
) -> None:
    """Let training multiply by int8 copies of the frozen matrices, packed when they are first needed.

    The ``kept`` input columns with the largest activations stay float32. They belong to the model, not to the text
    (Sun et al. 2024, "Massive Activations", arXiv 2402.17762), so one look at random tokens finds them, and the choice
    is the same in every run. ``first`` is the token that texts begin with, where they begin with one: on it some models
    have their largest activations. Layers under ``lowest_layer`` stay float32; so do the logits without ``head``, or
    where it does not fit (``head_fits``): their gradient is in int8 all the same.
    """
    largest = _largest_activations(decoder, first)
    for number, block in enumerate(decoder.layers):
        for linear in linears_of(block):
            linear.weight.choose(Int8Choice(_top(largest[linear.name], kept)) if number >= lowest_layer else None)
    top = decoder.lm_head
    top.weight.choose(Int8Choice(_top(largest[top.name], kept), _HEAD_GROUP, head and head_fits(decoder)))


def use_bfloat16(decoder: Decoder) -> None:
    """Let training round both sides of every product with a frozen matrix to bfloat16."""
    for linear in linears_of(decoder):
        linear.weight.choose(Bfloat16Choice())


def head_fits(decoder: Decoder) -> bool:
    """Whether an int8 copy of the head for both directions keeps to ``HEAD_BYTES``."""
    rows, columns = decoder.lm_head.weight.shape
    return 2 * _HEAD_COPY_BYTES * rows * columns <= HEAD_BYTES


def int8_bytes(decoder: Decoder) -> int:
    """About the memory that int8 copies of all layers take."""
    weights = sum(math.prod(linear.weight.shape) for block in decoder.layers for linear in linears_of(block))
    return round(_COPY_BYTES * weights)


def _top(columns: Tensor, kept: int) -> Tensor:
    """Numbers of the largest, rising."""
    return columns.topk(min(kept, columns.shape[0])).indices.sort().values


def use_float32(decoder: Decoder) -> None:
    """Train on the exact blocks again, and let the copies go."""
    for linear in linears_of(decoder):
        linear.weight.choose(None)


@torch.no_grad()
def _largest_activations(decoder: Decoder, first: int | None) -> dict[str, Tensor]:
    """By module name, the largest size of each input column over some random tokens. (in,)."""
    largest: dict[str, Tensor] = {}

    def look(name: str, x: Tensor) -> None:
        largest[name] = x.abs().amax(0)

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(decoder.config.vocab_size, (_SEGMENTS * _LENGTH,), generator=generator)
    if first is not None:
        tokens[::_LENGTH] = first
    with watched(linears_of(decoder), look):
        hidden = decoder(tokens, Layout([_LENGTH] * _SEGMENTS))
    largest[decoder.lm_head.name] = hidden.abs().amax(0)
    return largest
