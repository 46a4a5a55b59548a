"""Layers with a frozen matrix and any number of adapters on top."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nomoat.model.adapted import Part, int8_products
from nomoat.model.delta import AnyStack, add_deltas, add_rows, low_rank_pairs
from nomoat.model.frozen import FrozenWeight, frozen_product


class Linear(nn.Module):
    """``x W.T + b``, plus what the stack's adapters add. ``name`` is the checkpoint's module name."""

    def __init__(self, name: str, weight: FrozenWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.name, self.weight, self.bias = name, weight, bias

    def forward(self, x: Tensor, stack: AnyStack) -> Tensor:
        """(T, in) -> (T, out)."""
        if (part := self.int8_part(stack)) is not None:
            return int8_products(x, [part])[0]
        base = frozen_product(x, self.weight)
        out = base if self.bias is None else base + self.bias
        return add_deltas(out, x, base, self.weight, stack, self.name)

    def int8_part(self, stack: AnyStack) -> Part | None:
        """This layer for ``int8_products``, where int8 is chosen and its adapters are plain low-rank updates."""
        pairs = low_rank_pairs(stack, self.name)
        packed = self.weight.for_training() if pairs is not None else None
        return None if packed is None or pairs is None else Part(packed, self.bias, pairs)


def together(linears: Sequence[Linear], x: Tensor, stack: AnyStack) -> tuple[Tensor, ...]:
    """The outputs of several layers over one input: it is quantized once where training runs in int8."""
    parts = [linear.int8_part(stack) for linear in linears]
    whole = [part for part in parts if part is not None]
    if len(whole) == len(linears):
        return int8_products(x, whole)
    return tuple(linear(x, stack) for linear in linears)


class Embedding(nn.Module):
    """Rows of a frozen matrix by token, plus what the stack's adapters add."""

    def __init__(self, name: str, weight: FrozenWeight) -> None:
        super().__init__()
        self.name, self.weight = name, weight

    def forward(self, tokens: Tensor, stack: AnyStack) -> Tensor:
        """(T,) -> (T, D)."""
        return add_rows(self.weight.gather(tokens), tokens, stack, self.name)
