"""Which arithmetic training uses: the exact blocks in float32, or an int8 copy of the frozen matrices.

Only products of which a gradient may be wanted change. Evaluation and generation run without gradients, so they stay on
the exact blocks whatever is chosen here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from nomoat.model.cache import Layout
from nomoat.model.decoder import Decoder
from nomoat.model.linear import Linear

KEPT: Final = 16  # columns of each matrix that stay float32; with 8, SmolLM2's cosine falls to 0.95 on some rows
COPY_BYTES: Final = 2.15  # of memory for a weight: both directions, scales and all
HEAD_BYTES: Final = 300e6  # a head whose copy would take more stays in its blocks
_SEGMENTS: Final = 8  # of random tokens; the first token of each draws the largest activations of a model
_LENGTH: Final = 16


def use_int8(decoder: Decoder, *, first: int | None, kept: int = KEPT, lowest_layer: int = 0) -> None:
    """Let training multiply by int8 copies of the frozen matrices, packed when they are first needed.

    The ``kept`` input columns with the largest activations stay float32. They belong to the model, not to the text
    (Sun et al. 2024, "Massive Activations", arXiv 2402.17762), so one look at random tokens finds them, and the choice
    is the same in every run. ``first`` is the token that texts begin with, where they begin with one: on it some models
    have their largest activations. Layers under ``lowest_layer`` stay float32. Copies take
    ``COPY_BYTES`` for a weight; a head that would take more than ``HEAD_BYTES`` stays float32.
    """
    largest = _largest_activations(decoder, first)
    for number, block in enumerate(decoder.layers):
        for linear in _linears(block):
            columns = largest[linear.name]
            chosen = columns.topk(min(kept, columns.shape[0])).indices.sort().values
            linear.weight.choose_int8(chosen if number >= lowest_layer else None)
    head, columns = decoder.lm_head, largest[decoder.lm_head.name]
    if head.weight.shape[0] * head.weight.shape[1] * COPY_BYTES <= HEAD_BYTES:
        head.weight.choose_int8(columns.topk(min(kept, columns.shape[0])).indices.sort().values)


def use_float32(decoder: Decoder) -> None:
    """Train on the exact blocks again, and let the copies go."""
    for linear in _linears(decoder):
        linear.weight.choose_int8(None)


def _linears(module: torch.nn.Module) -> Iterator[Linear]:
    return (each for each in module.modules() if isinstance(each, Linear))


@torch.no_grad()
def _largest_activations(decoder: Decoder, first: int | None) -> dict[str, Tensor]:
    """By module name, the largest size of each input column over some random tokens. (in,)."""
    largest: dict[str, Tensor] = {}

    def look(module: torch.nn.Module, inputs: tuple[Tensor, object]) -> None:
        assert isinstance(module, Linear)
        largest[module.name] = inputs[0].abs().amax(0)

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(decoder.config.vocab_size, (_SEGMENTS * _LENGTH,), generator=generator)
    if first is not None:
        tokens[::_LENGTH] = first
    with contextlib.ExitStack() as hooks:
        for linear in _linears(decoder):
            hooks.callback(linear.register_forward_pre_hook(look).remove)
        hidden = decoder(tokens, Layout([_LENGTH] * _SEGMENTS))
    largest[decoder.lm_head.name] = hidden.abs().amax(0)
    return largest
