"""Weights in their stored blocks: expand them to float32, or multiply by them as they are."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.formats.weights import Bytes
from nomoat.kernels import native, reference

MAX_SMALL = native.MAX_SMALL


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
