"""Training products with stored blocks in bfloat16, both ways, and with updates on top.

The blocks are expanded and rounded where they are used, so a matrix never lies in memory twice.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from nomoat.kernels import native, reference
from nomoat.kernels.native import LowRank


@dataclasses.dataclass(frozen=True, slots=True)
class RoundedBlocks:
    """A frozen matrix (out, in) in ``data``, uint8 (out, row_bytes), whose products round both sides to bfloat16.

    Sums are in float32, as in mixed-precision training (Micikevicius et al. 2018, arXiv 1710.03740, section 3.3). A
    result lies within 2^-7 of ``abs(x) @ abs(W).T``.
    """

    data: Tensor
    type: str

    def product(self, x: Tensor) -> Tensor:
        """``x @ W.T``. (T, in) -> (T, out)."""
        if _compiled(x):
            return native.matmul_tiles(x, self.data, self.type, parts=1)
        return _rounded(x) @ self._rounded().T

    def product_transposed(self, g: Tensor, add_to: Tensor | None = None) -> Tensor:
        """``g @ W``, added to ``add_to``, in place, if given. (T, out) -> (T, in)."""
        if _compiled(g):
            return native.matmul_tiles(g, self.data, self.type, parts=1, transposed=True, add_to=add_to)
        back = _rounded(g) @ self._rounded()
        return back if add_to is None else add_to.add_(back)

    def product_updated(self, x: Tensor, update: LowRank) -> tuple[Tensor, Tensor]:
        """``product`` of the matrix with ``update`` on top, and ``low = scale * x @ a.T``. -> (T, out), (T, R)."""
        if _compiled(x):
            return native.matmul_tiles_updated(x, self.data, self.type, update)
        out = self.product(x)
        return out, add_update(out, x, update)

    def product_transposed_updated(
        self, g: Tensor, update: LowRank, add_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``product_transposed`` of the same, and ``low = scale * g @ b``. -> (T, in), (T, R)."""
        if _compiled(g):
            return native.matmul_tiles_updated(g, self.data, self.type, update, transposed=True, add_to=add_to)
        out = self.product_transposed(g, add_to)
        return out, add_update_transposed(out, g, update)

    def _rounded(self) -> Tensor:
        return _rounded(reference.expand(self.data, self.type))


def add_update(out: Tensor, x: Tensor, update: LowRank) -> Tensor:
    """Add ``low @ b.T`` to ``out`` in place, with ``low = scale * x @ a.T``, which is returned. (T, out), (T, in)."""
    low = RoundedBlocks(_as_blocks(update.a), "F32").product(x).mul_(update.scale)
    if _compiled(x):
        native.matmul_tiles(low, _as_blocks(update.b), "F32", parts=1, add_to=out)
    else:
        out.addmm_(_rounded(low), _rounded(update.b).T)
    return low


def add_update_transposed(out: Tensor, g: Tensor, update: LowRank) -> Tensor:
    """Add ``low @ a`` to ``out`` in place, with ``low = scale * g @ b``, which is returned. (T, in), (T, out)."""
    low = RoundedBlocks(_as_blocks(update.b), "F32").product_transposed(g).mul_(update.scale)
    RoundedBlocks(_as_blocks(update.a), "F32").product_transposed(low, out)
    return low


def sum_of_outer(left: Tensor, right: Tensor) -> Tensor:
    """``left.T @ right`` of rounded numbers, for few columns on the left. (T, R), (T, n) -> (R, n)."""
    return RoundedBlocks(_as_blocks(right), "F32").product_transposed(left.T)


def _as_blocks(matrix: Tensor) -> Tensor:
    """Float32 numbers are blocks of one."""
    return matrix.detach().contiguous().view(torch.uint8)


def _compiled(x: Tensor) -> bool:
    return x.is_cpu and native.has_tiles()


def _rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()
