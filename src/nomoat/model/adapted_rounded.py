"""Several matrices rounded to bfloat16 over one input, each with its updates, as one step of autograd.

A matrix with one update on all rows is one pass over the output. Otherwise updates follow one by one, on their rows:
the same sums in the same order, so that a row of a mixed batch gets the very bits that it gets alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nomoat.kernels.bfloat16 import RoundedBlocks, add_update, add_update_transposed, sum_of_outer
from nomoat.kernels.native import LowRank
from nomoat.model.parts import Frozen, Kept, Part, factors_of, keep, pairs_of

Updates = list[tuple[LowRank, slice]]


def rounded_products(x: Tensor, parts: Sequence[Part]) -> tuple[Tensor, ...]:
    """Every part's ``x @ W.T + bias`` with its updates. All matrices are ``RoundedBlocks``. (T, in) -> (T, out)."""
    out: tuple[Tensor, ...] = _RoundedProducts.apply(x, Frozen(parts), *factors_of(parts))  # type: ignore[no-untyped-call]
    return out


class _RoundedProducts(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen, *factors: Tensor) -> tuple[Tensor, ...]:
        pairs = pairs_of(factors)
        outs, lows = [], []
        for matrix, bias, scales in frozen.parts:
            assert isinstance(matrix, RoundedBlocks)  # as rounded_products asks
            out, made = _product(matrix, x, [(LowRank(*next(pairs), scale), rows) for scale, rows in scales])
            outs.append(out if bias is None else out.add_(bias))
            lows += made
        keep(ctx, x, frozen, factors, lows)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = Kept(ctx)
        to_x: Tensor | None = None
        to_factors: list[Tensor | None] = []
        for (matrix, _, scales), grad in zip(ctx.frozen.parts, grads, strict=True):
            updates = [(LowRank(*next(kept.pairs), scale), rows) for scale, rows in scales]
            if ctx.needs_input_grad[0]:
                to_x, to_lows = _product_transposed(matrix, grad, updates, to_x)
            else:
                to_lows = [torch.mm(grad[rows], update.b).mul_(update.scale) for update, rows in updates]
            for (_, rows), to_low in zip(updates, to_lows, strict=True):
                low = next(kept.lows)
                to_factors.append(sum_of_outer(to_low, kept.x[rows]) if next(kept.wanted) else None)
                to_factors.append(sum_of_outer(low, grad[rows]).T if next(kept.wanted) else None)
        return to_x, None, *to_factors


def _product(matrix: RoundedBlocks, x: Tensor, updates: Updates) -> tuple[Tensor, list[Tensor]]:
    if _is_one_on_all_rows(updates):
        out, low = matrix.product_updated(x, updates[0][0])
        return out, [low]
    out = matrix.product(x)
    return out, [add_update(out[rows], x[rows], update) for update, rows in updates]


def _product_transposed(
    matrix: RoundedBlocks, g: Tensor, updates: Updates, add_to: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    if _is_one_on_all_rows(updates):
        out, low = matrix.product_transposed_updated(g, updates[0][0], add_to)
        return out, [low]
    out = matrix.product_transposed(g, add_to)
    return out, [add_update_transposed(out[rows], g[rows], update) for update, rows in updates]


def _is_one_on_all_rows(updates: Updates) -> bool:
    return len(updates) == 1 and updates[0][1] == slice(None)
