"""The searches of ``formats/fit.py`` compiled (``csrc/fit.cpp``), called through ctypes: to the bit the same scales."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import torch

from nomoat.core.errors import ShapeMismatch
from nomoat.formats.fit import NUMPY, Search
from nomoat.formats.weights import Floats
from nomoat.kernels import native


def search() -> Search:
    """The compiled searches where they can be used, else numpy's."""
    return Search(best_scale, best_line) if native.available() else NUMPY


def best_scale(
    x: Floats, weights: Floats, levels: int, factors: Floats, *, instruction_set: int | None = None
) -> Floats:
    """As ``fit.best_scale``, for runs of 16 or 32. Raises ``ShapeMismatch`` for others."""
    x, weights, factors = _checked(x, weights, factors)
    scale = np.empty((len(x), 1), np.float32)
    _accepted(
        _library().nm_best_scale(
            native.chosen(instruction_set),
            torch.get_num_threads(),
            x.ctypes.data,
            weights.ctypes.data,
            *x.shape,
            factors.ctypes.data,
            len(factors),
            levels,
            scale.ctypes.data,
        ),
        x,
    )
    return scale


def best_line(
    x: Floats, weights: Floats, top: int, factors: Floats, *, instruction_set: int | None = None
) -> tuple[Floats, Floats]:
    """As ``fit.best_line``, for runs of 32. Raises ``ShapeMismatch`` for others."""
    x, weights, factors = _checked(x, weights, factors)
    scale, offset = np.empty((len(x), 1), np.float32), np.empty((len(x), 1), np.float32)
    _accepted(
        _library().nm_best_line(
            native.chosen(instruction_set),
            torch.get_num_threads(),
            x.ctypes.data,
            weights.ctypes.data,
            *x.shape,
            factors.ctypes.data,
            len(factors),
            top,
            scale.ctypes.data,
            offset.ctypes.data,
        ),
        x,
    )
    return scale, offset


def _checked(x: Floats, weights: Floats, factors: Floats) -> tuple[Floats, Floats, Floats]:
    """Without gaps and float32, as the library reads them. Raises ``ShapeMismatch``."""
    if x.ndim != 2 or weights.shape != x.shape or factors.ndim != 1:
        raise ShapeMismatch(f"weights of shape {weights.shape} and factors of {factors.shape} for runs of {x.shape}")
    found = tuple(np.ascontiguousarray(each, dtype=np.float32) for each in (x, weights, factors))
    return found[0], found[1], found[2]


def _accepted(failed: int, x: Floats) -> None:
    if failed:
        raise ShapeMismatch(f"the compiled search does not take runs of {x.shape[1]}")


@cache
def _library() -> ctypes.CDLL:
    library = native.library()
    number, size, real, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    library.nm_best_scale.argtypes = [number, number, pointer, pointer, size, size, pointer, size, real, pointer]
    library.nm_best_line.argtypes = [
        number,
        number,
        pointer,
        pointer,
        size,
        size,
        pointer,
        size,
        real,
        pointer,
        pointer,
    ]
    library.nm_best_scale.restype = library.nm_best_line.restype = number
    return library
