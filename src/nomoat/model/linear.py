"""Layers with a frozen matrix and any number of adapters on top."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from nomoat.model.adapted import products
from nomoat.model.delta import AnyStack, add_deltas, add_rows, low_rank_pairs, with_biases
from nomoat.model.frozen import FrozenWeight, frozen_product
from nomoat.model.parts import Part

Watch = Callable[[str, Tensor], None]


class Linear(nn.Module):
    """``x W.T + b``, plus what the stack's adapters add. ``name`` is the checkpoint's module name."""

    def __init__(self, name: str, weight: FrozenWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.name, self.weight, self.bias = name, weight, bias
        self.watch: Watch | None = None

    def forward(self, x: Tensor, stack: AnyStack) -> Tensor:
        """(T, in) -> (T, out)."""
        self._show(x)
        if (part := self._part(stack)) is not None:
            return products(x, [part])[0]
        base = frozen_product(x, self.weight)
        out = base if self.bias is None else base + self.bias
        return add_deltas(out, x, base, self.weight, stack, self.name)

    def _show(self, x: Tensor) -> None:
        if self.watch is not None:
            self.watch(self.name, x)

    def _part(self, stack: AnyStack) -> Part | None:
        """This layer for ``products``, where its adapters are plain low-rank updates."""
        pairs = low_rank_pairs(stack, self.name)
        if pairs is None:
            return None
        return Part(self.weight.for_training() or self.weight, with_biases(self.bias, stack, self.name), pairs)


def together(linears: Sequence[Linear], x: Tensor, stack: AnyStack) -> tuple[Tensor, ...]:
    """The outputs of several layers over one input, which is kept, and quantized where that is chosen, once."""
    parts = [part for linear in linears if (part := linear._part(stack)) is not None]
    if len(parts) == len(linears):
        for linear in linears:
            linear._show(x)
        return products(x, parts)
    return tuple(linear(x, stack) for linear in linears)


def linears_of(module: nn.Module) -> list[Linear]:
    """The linear layers of a decoder or of a part of it, in order."""
    return [each for each in module.modules() if isinstance(each, Linear)]


@contextlib.contextmanager
def watched(linears: Sequence[Linear], watch: Watch) -> Iterator[None]:
    """Inside, ``watch`` is called with the name and the input, (T, in), of these layers whenever they are used."""
    try:
        for linear in linears:
            linear.watch = watch
        yield
    finally:
        for linear in linears:
            linear.watch = None


class Embedding(nn.Module):
    """Rows of a frozen matrix by token, plus what the stack's adapters add."""

    def __init__(self, name: str, weight: FrozenWeight) -> None:
        super().__init__()
        self.name, self.weight = name, weight

    def forward(self, tokens: Tensor, stack: AnyStack) -> Tensor:
        """(T,) -> (T, D)."""
        return add_rows(self.weight.gather(tokens), tokens, stack, self.name)
