"""Layers with a frozen matrix and any number of adapters on top."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nomoat.model.delta import Stack, deltas_at
from nomoat.model.frozen import FrozenWeight, frozen_product


class Linear(nn.Module):
    """``x W.T + b``, plus what the stack's adapters add. ``name`` is the checkpoint's module name."""

    def __init__(self, name: str, weight: FrozenWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.name, self.weight, self.bias = name, weight, bias

    def forward(self, x: Tensor, stack: Stack) -> Tensor:
        """(T, in) -> (T, out)."""
        base = frozen_product(x, self.weight)
        out = base if self.bias is None else base + self.bias
        for delta, strength in deltas_at(stack, self.name):
            out = delta.add_to(out, x, base, self.weight, strength)
        return out


class Embedding(nn.Module):
    """Rows of a frozen matrix by token, plus what the stack's adapters add."""

    def __init__(self, name: str, weight: FrozenWeight) -> None:
        super().__init__()
        self.name, self.weight = name, weight

    def forward(self, tokens: Tensor, stack: Stack) -> Tensor:
        """(T,) -> (T, D)."""
        out = self.weight.gather(tokens)
        for delta, strength in deltas_at(stack, self.name):
            out = delta.add_rows_to(out, tokens, strength)
        return out


@contextlib.contextmanager
def recomputed(tensor: Tensor, recipe: Callable[[], Tensor]) -> Iterator[None]:
    """Inside the block, whoever saves ``tensor`` for backward saves the recipe instead."""

    def pack(saved: Tensor) -> Tensor | None:
        return None if saved is tensor else saved

    def unpack(saved: Tensor | None) -> Tensor:
        return recipe() if saved is None else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
