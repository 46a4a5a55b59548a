"""How a skill's loss moves with the weights of a stack: one backward pass gives the slope along every weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from nomoat.data.pack import pack
from nomoat.engine.names import Worn
from nomoat.engine.score import PACK_TOKENS
from nomoat.model.adapters import Adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import Delta
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.stack.update import Updates, updates_of


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """The updates of a stack's adapters, scales folded in."""

    adapters: tuple[Adapter, ...]
    updates: tuple[Updates, ...]


def parts_of(worn: Worn) -> Parts:
    """Read the updates once. Raises ``UsageError`` for a DoRA, whose effect is not that of its factors alone."""
    return Parts(tuple(adapter for adapter, _ in worn), tuple(updates_of(adapter) for adapter, _ in worn))


def loss_and_slope(
    base: Base, parts: Parts, weights: Sequence[float], rows: Sequence[Encoded]
) -> tuple[float, list[float]]:
    """Mean loss of rows in nats a token, and its derivative by each adapter's weight.

    A weight w stands before ``B A``: with ``w B`` as the leaf, dL/dw is the inner product of dL/d(w B) and B. So it is
    with a bias.
    """
    stack = tuple((_scaled(adapter, updates, weight), 1.0)
                  for adapter, updates, weight in zip(parts.adapters, parts.updates, weights))  # fmt: skip
    total, tokens = 0.0, 0
    for piece in pack(rows, PACK_TOKENS):
        nll = base.decoder.next_token_losses(piece.tokens, Layout(piece.lengths), piece.loss_mask, stack).nll
        nll.sum().backward()  # type: ignore[no-untyped-call]
        total += nll.detach().sum().item()
        tokens += len(nll)
    slopes = []
    for (adapter, _), updates in zip(stack, parts.updates):
        products = []
        for module, delta in adapter.deltas.items():
            update = updates[module]
            for leaf, whole in ((delta.lora_B, update.lora_B), (delta.bias, update.bias)):
                if leaf is not None and whole is not None and leaf.grad is not None:
                    products.append(float((leaf.grad * whole).sum()))
        slopes.append(sum(products) / tokens)
    return total / tokens, slopes


def _scaled(adapter: Adapter, updates: Updates, weight: float) -> Adapter:
    """The adapter with ``weight`` inside B and bias, which alone carry a gradient."""
    deltas = {}
    for module, update in updates.items():
        moved = update.scaled(weight)
        bias = None if moved.bias is None else nn.Parameter(moved.bias)
        deltas[module] = Delta(
            nn.Parameter(update.lora_A, requires_grad=False), nn.Parameter(moved.lora_B), 1.0, bias=bias
        )
    return dataclasses.replace(adapter, deltas=deltas)


@torch.no_grad()
def softmax(values: Sequence[float], sharpness: float) -> list[float]:
    """Weights that favour the largest values."""
    found: list[float] = torch.softmax(torch.tensor(values, dtype=torch.float64) * sharpness, 0).tolist()
    return found
