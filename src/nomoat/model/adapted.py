"""Several matrices over one input, each with its adapters, as one step of autograd.

The input is quantized once for all that are in int8 (q, k and v; gate and up) and kept for backward once; biases and
updates go onto the products in place, and the input's gradient is summed where it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nomoat.kernels.bfloat16 import RoundedBlocks
from nomoat.kernels.int8 import PackedInt8, Recipe, Rows
from nomoat.model.adapted_rounded import rounded_products
from nomoat.model.parts import Exact, Frozen, Kept, Part, factors_of, keep, pairs_of


def products(x: Tensor, parts: Sequence[Part]) -> tuple[Tensor, ...]:
    """Every part's ``x @ W.T + bias``, with ``scale * (x @ a.T) @ b.T`` in each pair's rows. (T, in) -> (T, out)."""
    if all(isinstance(part.matrix, RoundedBlocks) for part in parts):
        return rounded_products(x, parts)
    out: tuple[Tensor, ...] = _Products.apply(x, Frozen(parts), *factors_of(parts))  # type: ignore[no-untyped-call]
    return out


class _Products(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen, *factors: Tensor) -> tuple[Tensor, ...]:
        quantized, pairs = _Quantized(x), pairs_of(factors)
        outs, lows = [], []
        for matrix, bias, updates in frozen.parts:
            out = quantized.product(matrix, bias) if isinstance(matrix, PackedInt8) else _exact(matrix, x, bias)
            for scale, rows in updates:
                a, b = next(pairs)
                lows.append((x[rows] @ a.T).mul_(scale))  # (n, R)
                out[rows].addmm_(lows[-1], b.T)
            outs.append(out)
        keep(ctx, x, frozen, factors, lows)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = Kept(ctx)
        to_x: Tensor | None = None
        to_factors: list[Tensor | None] = []
        for (matrix, _, updates), grad in zip(ctx.frozen.parts, grads):
            if ctx.needs_input_grad[0]:
                to_x = matrix.product_transposed(grad, add_to=to_x)
            for scale, rows in updates:
                a, b = next(kept.pairs)
                low, to_low = next(kept.lows), (grad[rows] @ b).mul_(scale)  # (n, R)
                to_factors.append(to_low.T @ kept.x[rows] if next(kept.wanted) else None)
                to_factors.append(grad[rows].T @ low if next(kept.wanted) else None)
                if to_x is not None:
                    to_x[rows].addmm_(to_low, a)
        return to_x, None, *to_factors


class _Quantized:
    """An input's rows in int8, for as long as matrices agree on how."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._made: tuple[Recipe, Rows] | None = None

    def product(self, packed: PackedInt8, bias: Tensor | None) -> Tensor:
        if self._made is None or not torch.equal(self._made[0].kept, packed.recipe.kept):
            self._made = packed.recipe, packed.quantize(self._x)
        return packed.product(self._made[1], bias)


def _exact(matrix: Exact, x: Tensor, bias: Tensor | None) -> Tensor:
    out = matrix.product(x)
    return out if bias is None else out.add_(bias)
