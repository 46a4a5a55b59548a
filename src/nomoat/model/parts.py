"""Frozen matrices and the low-rank updates on top of them, as one step of autograd takes them and finds them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from nomoat.kernels.int8 import PackedInt8


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A low-rank update ``scale * b @ a`` of a run of rows. a (R, in), b (out, R)."""

    a: Tensor
    b: Tensor
    scale: float
    rows: slice


class Exact(Protocol):
    """A frozen matrix (out, in) whose products are float32."""

    def product(self, x: Tensor) -> Tensor: ...

    def product_transposed(self, g: Tensor, add_to: Tensor | None = None) -> Tensor: ...


Matrix = PackedInt8 | Exact


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One of the matrices (out, in), its bias (out,), and the updates on top."""

    matrix: Matrix
    bias: Tensor | None
    pairs: tuple[Pair, ...]


class Frozen:
    """Parts without their factors, which autograd must see as arguments: each pair as its scale and rows."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = [(part.matrix, part.bias, [(pair.scale, pair.rows) for pair in part.pairs]) for part in parts]


def factors_of(parts: Sequence[Part]) -> list[Tensor]:
    """The factors of every pair, as ``pairs_of`` takes them apart."""
    return [factor for part in parts for pair in part.pairs for factor in (pair.a, pair.b)]


def pairs_of(factors: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    return iter(list(zip(factors[::2], factors[1::2])))


def keep(ctx: Any, x: Tensor, frozen: Frozen, factors: Sequence[Tensor], lows: Sequence[Tensor]) -> None:
    """What backward needs of forward; ``lows`` are what the pairs made of x, in order."""
    ctx.frozen, ctx.n_factors = frozen, len(factors)
    ctx.save_for_backward(x, *factors, *lows)


class Kept:
    """What ``keep`` kept: x, then one after the other the pairs, their lows, and whether each factor learns."""

    def __init__(self, ctx: Any) -> None:
        self.x, *saved = ctx.saved_tensors
        self.pairs = pairs_of(saved[: ctx.n_factors])
        self.lows = iter(saved[ctx.n_factors :])
        self.wanted = iter(ctx.needs_input_grad[2:])  # forward takes x and the frozen parts before the factors
