"""Products with stored blocks where rows are whole numbers in limbs of eight bits, 32 under one scale.

``csrc/limbs.cpp`` describes the scheme. Compiled for AVX-512 with VNNI; ``as_limbs`` is the readable twin of its
rounding, after which a product is a plain one.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.formats.blocks import block_type
from nomoat.kernels import native
from nomoat.kernels.memory import empty

RUN: Final = 32  # numbers of a row under one scale
_MOST: Final = {1: 127.0, 2: 32767.0}  # what the largest of a run becomes, by limbs


def available() -> bool:
    """Whether this machine multiplies eight-bit integers 64 at a time, and ``NOMOAT_KERNELS`` allows it."""
    return native.available() and native.chosen(None, ("portable", "avx512")) == 1 and bool(_library().nm_has_limbs())


def takes(data: Tensor, type: str) -> bool:
    """Whether this machine multiplies rows with this matrix so."""
    return data.is_cpu and available() and bool(_library().nm_takes_limbs(block_type(type).ggml_id, data.shape[0]))


def product(x: Tensor, data: Tensor, type: str, parts: int = 2) -> Tensor:
    """Return x @ W.T, float32 (M, rows), for x float32 (M, cols) of any M, and W stored in ``data``.

    Numbers of x are rounded to ``parts`` limbs, 1 or 2: by 2^-8 or 2^-16 of the largest of their run at most; weights
    are what is stored. A row is the same whatever other rows are in the batch and however many threads there are.
    Raises ``ShapeMismatch``, also for what it does not take.
    """
    kind = block_type(type)
    rows, row_bytes, row_stride = native.walkable(data)
    cols, m = kind.cols(row_bytes), x.shape[0]
    x = x.contiguous()
    if x.dtype != torch.float32 or x.shape != (m, cols) or not x.is_cpu:
        raise ShapeMismatch(f"x must be float32 {(m, cols)} on the CPU, not {x.dtype} {tuple(x.shape)} on {x.device}")
    y = empty(m, rows)
    failed = _library().nm_matmul_limbs(
        torch.get_num_threads(),
        kind.ggml_id,
        data.data_ptr(),
        rows,
        cols,
        row_stride,
        x.data_ptr(),
        m,
        parts,
        y.data_ptr(),
    )
    if failed:
        raise ShapeMismatch(f"the compiled kernels do not take {type} blocks of this shape in {parts} limbs")
    return y


def as_limbs(x: Tensor, parts: int) -> Tensor:
    """The numbers that the limbs of x stand for. (M, cols) -> (M, cols), cols a multiple of 32."""
    runs = x.view(*x.shape[:-1], -1, RUN)
    largest = runs.abs().amax(-1, keepdim=True)
    most = torch.full_like(largest, _MOST[parts])  # a number over a tensor would be its reciprocal, times the number
    by = torch.where(largest > 0, most / largest, 0.0)
    return ((runs * by).round() * (largest / most)).view(x.shape)


@cache
def _library() -> ctypes.CDLL:
    library = native.library()
    number, size, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    library.nm_takes_limbs.argtypes = [number, size]
    library.nm_matmul_limbs.argtypes = [number, number, pointer, size, size, size, pointer, size, number, pointer]
    return library
