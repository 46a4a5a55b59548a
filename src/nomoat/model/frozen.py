"""A frozen matrix that stays in the blocks it was stored in."""

from __future__ import annotations

import dataclasses
import threading

import torch
from torch import Tensor

from nomoat.kernels import blocks, quick
from nomoat.kernels.bfloat16 import RoundedBlocks
from nomoat.kernels.int8 import GROUP, PackedInt8
from nomoat.kernels.memory import empty
from nomoat.model.adapted import products
from nomoat.model.parts import Part


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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Int8Choice:
    """Int8, with the columns ``kept``, int64 (C,), in float32; the gradient to the input alone without ``forward``.

    ``group``: columns under one scale.
    """

    kept: Tensor
    group: int = GROUP
    forward: bool = True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Int8Choice) or (self.group, self.forward) != (other.group, other.forward):
            return False
        return torch.equal(self.kept, other.kept)

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True, slots=True)
class Bfloat16Choice:
    """Both sides of a product rounded to bfloat16, the sums in float32."""


QuickMatrix = PackedInt8 | RoundedBlocks


class FrozenWeight:
    """A matrix (out, in) of blocks: ``data`` is uint8 (out, row_bytes) in the format ``type`` (a GGUF type name)."""

    def __init__(self, data: Tensor, type: str, columns: int) -> None:
        self.data, self.type = data, type
        self.shape = (data.shape[0], columns)
        self._choice: Int8Choice | Bfloat16Choice | None = None
        self._quick: QuickMatrix | None = None

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
        parts, rounded = quick.parts_for(self.data, self.type), quick.are_rounded()
        if parts and (rounded or x.shape[0] > blocks.MAX_SMALL):
            return quick.product(x, self.data, self.type, parts)
        if x.shape[0] <= blocks.MAX_SMALL:
            return blocks.matmul_small(x, self.data, self.type)
        if rounded:  # what others round must not depend on how many rows there are
            return torch.cat(
                [blocks.matmul_small(some, self.data, self.type) for some in torch.split(x, blocks.MAX_SMALL)]
            )
        return torch.mm(x, self.expand().T, out=empty(x.shape[0], self.shape[0], like=x))

    def product_transposed(self, g: Tensor, add_to: Tensor | None = None) -> Tensor:
        """``g @ W``, added to ``add_to``, in place, if given. (T, out) -> (T, in)."""
        if add_to is not None:
            return add_to.addmm_(g, self.expand())
        return torch.mm(g, self.expand(), out=empty(g.shape[0], self.shape[1], like=g))

    def choose(self, choice: Int8Choice | Bfloat16Choice | None) -> None:
        """Take training products through another arithmetic; None: exactly again."""
        if choice != self._choice:
            self._choice, self._quick = choice, None

    def for_training(self) -> QuickMatrix | None:
        """The matrix in the chosen arithmetic for products both ways, where a gradient may be wanted.

        An int8 copy is made at the first call.
        """
        forward = not isinstance(self._choice, Int8Choice) or self._choice.forward
        return self.for_gradient() if forward else None

    def for_gradient(self) -> QuickMatrix | None:
        """The same for the gradient to the input, which may go through int8 alone."""
        if self._choice is None or not torch.is_grad_enabled():
            return None
        if self._quick is None:
            self._quick = self._in(self._choice)
        return self._quick

    def _in(self, choice: Int8Choice | Bfloat16Choice) -> QuickMatrix:
        if isinstance(choice, Bfloat16Choice):
            return RoundedBlocks(self.data, self.type)
        return PackedInt8(self.expand, self.shape, choice.kept, group=choice.group, there=choice.forward)


def frozen_product(x: Tensor, weight: FrozenWeight) -> Tensor:
    """``x @ W.T``, differentiable in x. (T, in) -> (T, out)."""
    return products(x, [Part(weight.for_training() or weight, None, ())])[0]
