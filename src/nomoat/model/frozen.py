"""A frozen matrix that stays in the blocks it was stored in."""

from __future__ import annotations

import dataclasses
import threading

import torch
from torch import Tensor

from nomoat.kernels import blocks
from nomoat.kernels.int8 import GROUP, PackedInt8
from nomoat.kernels.memory import empty
from nomoat.model.adapted import Part, products


class _Scratch(threading.local):
    """One grow-only buffer a thread: fresh pages for every expanded matrix cost as much as filling them."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0)

    def take(self, rows: int, columns: int) -> Tensor:
        if self._buffer.numel() < rows * columns:
            with torch.inference_mode(False):  # or training after generating could not write into it
                self._buffer = torch.empty(rows * columns)
        return self._buffer[: rows * columns].view(rows, columns)


_SCRATCH = _Scratch()


@dataclasses.dataclass(frozen=True, slots=True)
class Int8Choice:
    """How a matrix goes through int8: columns under one scale; the gradient to the input alone without ``forward``."""

    group: int = GROUP
    forward: bool = True


class FrozenWeight:
    """A matrix (out, in) of blocks: ``data`` is uint8 (out, row_bytes) in the format ``type`` (a GGUF type name)."""

    def __init__(self, data: Tensor, type: str, columns: int) -> None:
        self.data, self.type = data, type
        self.shape = (data.shape[0], columns)
        self._kept: Tensor | None = None
        self._how = Int8Choice()
        self._packed: PackedInt8 | None = None

    @property
    def size_bytes(self) -> int:
        return self.data.numel()

    def expand(self, rows: slice = slice(None)) -> Tensor:
        """Float32 (rows, in) in a buffer that the next ``expand`` of this thread overwrites."""
        part = self.data[rows]
        return blocks.expand(part, self.type, out=_SCRATCH.take(part.shape[0], self.shape[1]))

    def gather(self, indices: Tensor) -> Tensor:
        """Chosen rows as float32 in a tensor of their own. (n,) -> (n, in)."""
        return blocks.expand(self.data[indices], self.type)

    def product(self, x: Tensor) -> Tensor:
        """``x @ W.T``. (T, in) -> (T, out)."""
        if x.shape[0] <= blocks.MAX_SMALL:
            return blocks.matmul_small(x, self.data, self.type)
        if blocks.is_quick(self.data, self.type):
            return blocks.matmul_wide(x, self.data, self.type)
        return torch.mm(x, self.expand().T, out=empty(x.shape[0], self.shape[0], like=x))

    def product_transposed(self, g: Tensor, add_to: Tensor | None = None) -> Tensor:
        """``g @ W``, added to ``add_to``, in place, if given. (T, out) -> (T, in)."""
        if add_to is not None:
            return add_to.addmm_(g, self.expand())
        return torch.mm(g, self.expand(), out=empty(g.shape[0], self.shape[1], like=g))

    def choose_int8(self, kept: Tensor | None, how: Int8Choice = Int8Choice()) -> None:
        """Take training products through int8, with the columns ``kept`` in float32; None: exactly again."""
        same = kept is not None and self._kept is not None and torch.equal(kept, self._kept)
        if not same or how != self._how:
            self._kept, self._how, self._packed = kept, how, None

    def for_training(self) -> PackedInt8 | None:
        """The int8 copy for products both ways, made at the first call, where a gradient may be wanted."""
        return self.for_gradient() if self._how.forward else None

    def for_gradient(self) -> PackedInt8 | None:
        """The same for the gradient to the input, which may go through int8 alone."""
        if self._kept is None or not torch.is_grad_enabled():
            return None
        if self._packed is None:
            how = self._how
            self._packed = PackedInt8(self.expand, self.shape, self._kept, group=how.group, there=how.forward)
        return self._packed


def frozen_product(x: Tensor, weight: FrozenWeight) -> Tensor:
    """``x @ W.T``, differentiable in x. (T, in) -> (T, out)."""
    return products(x, [Part(weight.for_training() or weight, None, ())])[0]
