"""Weights in their stored blocks: expand them to float32, or multiply by them as they are."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.formats.weights import Bytes
from nomoat.kernels import bfloat16, native, reference

MAX_SMALL = native.MAX_SMALL
_PARTS: Final = ContextVar("parts", default=0)  # of a float32 number in bfloat16; 0: it stays whole


def from_view(data: Bytes) -> Tensor:
    """Return the blocks of a mapped file as a uint8 tensor of the same memory. Nobody may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(data)


def expand(data: Tensor, type: str, out: Tensor | None = None) -> Tensor:
    """Return the weights of ``data``, uint8 (rows, row_bytes), as float32 (rows, cols), in ``out`` if given.

    Raises ``UnsupportedType`` for a type not in ``formats.blocks.TYPES`` and ``ShapeMismatch``.
    """
    if data.is_cpu and native.available():
        return native.expand(data, type, out)
    return reference.expand(data, type, out)


def matmul_small(x: Tensor, data: Tensor, type: str) -> Tensor:
    """Return x @ W.T, (M, rows), for x float32 (M, cols), M <= 16, and W stored in ``data``. No gradient.

    Meant for decoding: W is read once, in its blocks, whatever M is. Raises as ``expand`` does.
    """
    if x.requires_grad and torch.is_grad_enabled():
        raise UsageError("matmul_small has no gradient", hint="expand the weights, or use torch.no_grad()")
    if data.is_cpu and native.available():
        return native.matmul_small(x, data, type)
    return reference.matmul_small(x, data, type)


@contextlib.contextmanager
def quick_products(parts: int = 2) -> Iterator[None]:
    """Inside, products of many rows, attention's too, may go through tiles: for prompts that are to be answered.

    A search for weights only finds its way by them. ``parts``: bfloat16 numbers that a float32 number is taken as; with
    one, both sides of every product are rounded as in training, however few the rows: for a verdict of one letter, and
    where the user wants prompts so. All other scoring stays outside: it is held to float32.
    """
    before = _PARTS.set(parts)
    try:
        yield
    finally:
        _PARTS.reset(before)


def are_quick() -> bool:
    """Whether products may be quick here."""
    return _PARTS.get() > 0


def are_rounded() -> bool:
    """Whether products of any number of rows round both sides to bfloat16 here."""
    return _PARTS.get() == 1 and native.has_tiles()


def quick_parts(data: Tensor, type: str) -> int:
    """In how many parts ``bfloat16.product`` takes the numbers of rows with this matrix here; 0: it does not."""
    return _PARTS.get() if are_quick() and bfloat16.takes(data, type) else 0
