"""The compiled kernels of ``csrc/``: found, checked and called through ctypes.

The library takes plain pointers. So every shape, dtype and stride is checked here, before a pointer is handed over.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch, UsageError
from nomoat.formats.blocks import block_type
from nomoat.kernels.memory import empty

MODULE: Final = "nomoat.kernels._native"
ABI: Final = 10
LEVELS: Final = ("portable", "avx2", "avx-vnni", "avx512", "amx")  # what a machine can have, each with those before
SETS: Final = ("portable", "avx2", "avx512", "amx")  # of the block kernels, by the number the library gives them
MAX_SMALL: Final = 16  # rows of x that matmul_small takes


@dataclass(frozen=True)
class _Loaded:
    library: ctypes.CDLL | None
    why_not: str


def available() -> bool:
    """Whether the compiled kernels can be used: they are built, they load, and nobody asked for the twins."""
    return _wanted() != "reference" and _load().library is not None


def chosen(instruction_set: int | None, sets: Sequence[str] = SETS) -> int:
    """Return ``instruction_set``, or the number of the best of ``sets`` that ``NOMOAT_KERNELS`` allows.

    The library takes the best one up to it that the machine has. Raises ``UsageError`` for a name it does not know.
    """
    if instruction_set is not None:
        return instruction_set
    return _best(_wanted(), tuple(sets))


@cache  # a step asks a thousand times
def _best(wanted: str, sets: tuple[str, ...]) -> int:
    allowed = LEVELS[: LEVELS.index(wanted) + 1] if wanted in LEVELS else LEVELS
    return max(number for number, name in enumerate(sets) if name in allowed)


def _wanted() -> str:
    """What ``NOMOAT_KERNELS`` says: ``reference``, a level not to go beyond, or nothing."""
    wanted = os.environ.get("NOMOAT_KERNELS")
    if not wanted:
        return ""
    if wanted not in ("reference", *LEVELS):
        raise UsageError(f"NOMOAT_KERNELS={wanted} is unknown", hint=f"use one of reference, {', '.join(LEVELS)}")
    return wanted


def status() -> str:
    """Return one line for people: which instruction set is in use, or why the twins are."""
    if _wanted() == "reference":
        return "reference kernels, because NOMOAT_KERNELS=reference"
    found = _load().library
    if found is None:
        return f"reference kernels: {_load().why_not}"
    return f"compiled kernels, {found.nm_instruction_set(chosen(None)).decode()}"


def instruction_sets() -> list[int]:
    """Return the numbers of the instruction sets that this machine has, best last; empty if not built."""
    found = _load().library
    if found is None:
        return []
    return [n for n, name in enumerate(SETS) if found.nm_instruction_set(n).decode() == name]


def expand(data: Tensor, type: str, out: Tensor | None = None, *, instruction_set: int | None = None) -> Tensor:
    """Return the weights of ``data``, uint8 (rows, row_bytes), as float32 (rows, cols), in ``out`` if given.

    ``data`` is on the CPU; its rows may lie apart. The result does not depend on the number of threads or on
    the instruction set. Raises ``UnsupportedType`` and ``ShapeMismatch``.
    """
    kind = block_type(type)
    rows, row_bytes, row_stride = walkable(data)
    cols = kind.cols(row_bytes)
    if out is None:
        out = torch.empty(rows, cols)
    _check_floats("out", out, rows, cols)
    failed = library().nm_expand(
        chosen(instruction_set),
        torch.get_num_threads(),
        kind.ggml_id,
        data.data_ptr(),
        rows,
        cols,
        row_stride,
        out.data_ptr(),
    )
    _check_accepted(failed, type)
    return out


def matmul_small(x: Tensor, data: Tensor, type: str, *, instruction_set: int | None = None) -> Tensor:
    """Return x @ W.T, float32 (M, rows), for x float32 (M, cols), M <= 16, and W stored in ``data``.

    A row of the result is the same whatever other rows are in the batch and however many threads there are.
    Raises ``UnsupportedType`` and ``ShapeMismatch``.
    """
    kind = block_type(type)
    rows, row_bytes, row_stride = walkable(data)
    cols, m = kind.cols(row_bytes), x.shape[0]
    x = x.contiguous()
    _check_floats("x", x, m, cols)
    if m > MAX_SMALL:
        raise ShapeMismatch(f"matmul_small takes up to {MAX_SMALL} rows, not {m}")
    y = torch.empty(m, rows)
    failed = library().nm_matmul_small(
        chosen(instruction_set),
        torch.get_num_threads(),
        kind.ggml_id,
        data.data_ptr(),
        rows,
        cols,
        row_stride,
        x.data_ptr(),
        m,
        y.data_ptr(),
    )
    _check_accepted(failed, type)
    return y


def has_tiles() -> bool:
    """Whether ``matmul_tiles`` can be used: tiles of bfloat16 (Intel AMX), and ``NOMOAT_KERNELS`` allows them."""
    return available() and chosen(None, ("portable", "amx")) == 1 and bool(library().nm_has_tiles())


@dataclass(frozen=True, slots=True)
class LowRank:
    """An update ``scale * b @ a`` of a matrix (out, in): a (R, in), b (out, R), float32."""

    a: Tensor
    b: Tensor
    scale: float


def matmul_tiles(
    x: Tensor, data: Tensor, type: str, *, parts: int, transposed: bool = False, add_to: Tensor | None = None
) -> Tensor:
    """Return x @ W.T, float32 (M, rows), for x float32 (M, cols) of any M, and W stored in ``data``.

    With ``transposed`` it is x @ W, (M, cols), for x (M, rows). With ``add_to`` it is added to that, in place. Numbers
    are taken as the sum of ``parts`` bfloat16 numbers, 1 or 2. A row is the same whatever other rows are in the batch
    and however many threads there are. Raises ``UnsupportedType`` and ``ShapeMismatch``, the latter too unless
    ``has_tiles``.
    """
    return _matmul_tiles(x, data, type, parts, transposed, add_to, None)[0]


def matmul_tiles_updated(
    x: Tensor, data: Tensor, type: str, update: LowRank, *, transposed: bool = False, add_to: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``matmul_tiles`` in one part with ``update`` on top of W, in one pass; and what it is made of, (M, R).

    That is ``scale * x @ a.T``, or with ``transposed`` ``scale * x @ b``.
    """
    return _matmul_tiles(x, data, type, 1, transposed, add_to, update)


def _matmul_tiles(
    x: Tensor, data: Tensor, type: str, parts: int, transposed: bool, add_to: Tensor | None, update: LowRank | None
) -> tuple[Tensor, Tensor]:
    kind = block_type(type)
    rows, row_bytes, row_stride = walkable(data)
    cols, m = kind.cols(row_bytes), x.shape[0]
    depth, outputs = (rows, cols) if transposed else (cols, rows)
    x = x.contiguous()
    _check_floats("x", x, m, depth)
    y = empty(m, outputs) if add_to is None else add_to
    _check_floats("add_to", y, m, outputs)
    rank = 0 if update is None else update.a.shape[0]
    low = torch.empty(m, rank)
    a, b = (low, low) if update is None else (update.a.detach().contiguous(), update.b.detach().contiguous())
    if update is not None:
        _check_floats("a", a, rank, cols)
        _check_floats("b", b, rows, rank)
    failed = library().nm_matmul_tiles(
        torch.get_num_threads(),
        kind.ggml_id,
        data.data_ptr(),
        rows,
        cols,
        row_stride,
        x.data_ptr(),
        m,
        parts,
        int(transposed),
        int(add_to is not None),
        y.data_ptr(),
        rank,
        a.data_ptr(),
        b.data_ptr(),
        1.0 if update is None else update.scale,
        low.data_ptr(),
    )
    _check_accepted(failed, type)
    return y, low


def walkable(data: Tensor) -> tuple[int, int, int]:
    """Return rows, row_bytes and the stride of rows of blocks. Raises ``ShapeMismatch`` unless the library may
    walk over them."""
    if data.dtype != torch.uint8 or data.ndim != 2 or not data.is_cpu:
        raise ShapeMismatch(
            f"blocks are uint8 (rows, row_bytes) on the CPU, not {data.dtype} {tuple(data.shape)} on {data.device}"
        )
    rows, row_bytes = data.shape
    row_stride, byte_stride = data.stride()
    if (row_bytes > 1 and byte_stride != 1) or (rows > 1 and row_stride < row_bytes):
        raise ShapeMismatch(f"the bytes of a row of blocks must lie together, not {data.stride()} apart")
    return rows, row_bytes, row_stride


def _check_floats(name: str, tensor: Tensor, rows: int, cols: int) -> None:
    if tensor.dtype != torch.float32 or tensor.shape != (rows, cols) or not tensor.is_cpu or not tensor.is_contiguous():
        raise ShapeMismatch(
            f"{name} must be contiguous float32 {(rows, cols)} on the CPU, not {tensor.dtype}"
            f" {tuple(tensor.shape)} on {tensor.device}"
        )


def _check_accepted(failed: int, type: str) -> None:
    if failed:
        raise ShapeMismatch(f"the compiled kernels do not take {type} blocks of this shape")


def built() -> bool:
    """Whether the library is there and loads, whatever NOMOAT_KERNELS says."""
    return _load().library is not None


def library() -> ctypes.CDLL:
    """Return the loaded library for modules that check their own pointers. Raises ``ShapeMismatch`` if not built."""
    found = _load().library
    if found is None:
        raise ShapeMismatch(f"no compiled kernels: {_load().why_not}")
    return found


@cache
def _load() -> _Loaded:
    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        return _Loaded(None, "the package was installed without a C++ compiler")
    if sys.byteorder != "little":
        return _Loaded(None, "the compiled kernels are for little-endian machines")
    try:
        library = ctypes.CDLL(spec.origin)
        abi = library.nm_abi()
    except (OSError, AttributeError) as error:
        return _Loaded(None, f"{spec.origin} does not load: {error}")
    if abi != ABI:
        return _Loaded(None, f"{spec.origin} was built from another version; install the package again")
    _declare(library)
    return _Loaded(library, "")


def _declare(library: ctypes.CDLL) -> None:
    number, size, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    library.nm_instruction_set.argtypes = [number]
    library.nm_instruction_set.restype = ctypes.c_char_p
    library.nm_expand.argtypes = [number, number, number, pointer, size, size, size, pointer]
    library.nm_matmul_small.argtypes = [*library.nm_expand.argtypes[:-1], pointer, size, pointer]
    library.nm_int8_instruction_set.argtypes = [number]
    library.nm_int8_instruction_set.restype = ctypes.c_char_p
    quantize: list[Any] = [pointer, size, size, size, size, number, pointer, size, pointer, pointer, pointer]
    library.nm_int8_quantize.argtypes = [number, number, *quantize]
    rows: list[Any] = [pointer, pointer, pointer, size, size, size]
    weight: list[Any] = [pointer, pointer, pointer, pointer, size, size]
    library.nm_int8_product.argtypes = [number, number, *rows, *weight, pointer, pointer, size, number]
    tiles: list[Any] = [number, number, pointer, size, size, size, pointer, size, number, number, number, pointer]
    library.nm_matmul_tiles.argtypes = [*tiles, size, pointer, pointer, ctypes.c_float, pointer]
    library.nm_decode_step.argtypes = [number, number, pointer, pointer]
