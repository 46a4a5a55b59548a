"""Products that need not be exact: near float32 in two parts a number, rougher in one, by what is quick here.

That is tiles of bfloat16 (``native.matmul_tiles``), or else whole numbers of eight bits (``limbs``), or nothing. Blocks
are unpacked where they are used, so a matrix never lies in memory twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.formats.blocks import block_type
from nomoat.kernels import limbs, native, reference

LEAST_WEIGHTS: Final = 1 << 16  # smaller matrices are expanded: nothing to win, and the plain product is exact
_PARTS: Final = ContextVar("parts", default=0)  # of a float32 number; 0: it stays whole


@contextlib.contextmanager
def quick_products(parts: int = 2) -> Iterator[None]:
    """Inside, products of many rows may be quick, attention's too on tiles: for prompts that are to be answered.

    A search for weights only finds its way by them. ``parts``: see ``product``; with one, numbers are rounded as in
    training, however few the rows: for a verdict of one letter, and where the user wants prompts so. All other scoring
    stays outside: it is held to float32.
    """
    before = _PARTS.set(parts)
    try:
        yield
    finally:
        _PARTS.reset(before)


def are_quick() -> bool:
    """Whether products may be quick here."""
    return _PARTS.get() > 0


def available() -> bool:
    """Whether this machine has anything quick."""
    return native.has_tiles() or limbs.available()


def are_rounded() -> bool:
    """Whether products of any number of rows are taken in one part here."""
    return _PARTS.get() == 1 and available()


def parts_for(data: Tensor, type: str) -> int:
    """In how many parts ``product`` takes the numbers of rows with this matrix here; 0: it does not."""
    return _PARTS.get() if are_quick() and takes(data, type) else 0


def takes(data: Tensor, type: str) -> bool:
    """Whether this matrix is worth it: it is large enough, and the machine is quick with its blocks."""
    large = data.shape[0] * block_type(type).cols(data.shape[1]) >= LEAST_WEIGHTS
    return large and ((data.is_cpu and native.has_tiles()) or limbs.takes(data, type))


def product(x: Tensor, data: Tensor, type: str, parts: int = 2) -> Tensor:
    """Return x @ W.T, (M, rows), for x float32 (M, cols) of many rows and W stored in ``data``. No gradient.

    On tiles every float32 number is taken as the sum of two bfloat16 numbers, so a result lies within 2^-15 of
    ``abs(x) @ abs(W).T`` (Henry, Tang & Heinecke 2019, arXiv 1904.06376); as one of them, within 2^-7. In limbs the
    numbers of x alone are rounded, by 2^-16 or 2^-8 of the largest of 32 at most. Raises as ``blocks.expand`` does.
    """
    if x.requires_grad and torch.is_grad_enabled():
        raise UsageError("quick products have no gradient", hint="expand the weights, or use torch.no_grad()")
    if not takes(data, type):
        return reference.matmul_small(x, data, type)
    if native.has_tiles():
        return native.matmul_tiles(x, data, type, parts=parts)
    return limbs.product(x, data, type, parts)
