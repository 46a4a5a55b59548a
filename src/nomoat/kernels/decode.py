"""The compiled decode step: its structures, filled from tensors, and the call. ``csrc/decode.h`` reads them.

The library follows the addresses in here without looking. So shapes, dtypes and layouts are checked as a structure is
filled, and whoever fills one keeps the tensors alive for as long as it is used.
"""

from __future__ import annotations

import ctypes
from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.formats.blocks import block_type
from nomoat.kernels import native

PARTS: Final = ("q", "k", "v", "o", "gate", "up", "down")  # a layer's matrices, in the library's order
HEAD_NORMS: Final = ("none", "head", "full")

_size, _real, _address = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Matrix(ctypes.Structure):
    """A frozen matrix in its blocks, and its bias."""

    _fields_ = (
        ("data", _address),
        ("ggml_id", _size),
        ("rows", _size),
        ("cols", _size),
        ("row_stride", _size),
        ("bias", _address),
    )


class Layer(ctypes.Structure):
    """One layer: its matrices, its norms (null: none), how far it sees (0: everything) and its rotation (-1: none)."""

    _fields_ = (
        ("parts", Matrix * len(PARTS)),
        ("before_attention", _address),
        ("after_attention", _address),
        ("before_mlp", _address),
        ("after_mlp", _address),
        ("q_norm", _address),
        ("k_norm", _address),
        ("window", _size),
        ("rope", _size),
    )


class Model(ctypes.Structure):
    """A decoder from the first layer to the last norm. ``head_norm`` counts ``HEAD_NORMS``; softcap 0 is none."""

    _fields_ = (
        ("layers", ctypes.POINTER(Layer)),
        ("last_norm", _address),
        *((name, _size) for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff")),
        ("head_norm", _size),
        ("gelu", _size),
        *((name, _real) for name in ("norm_eps", "softmax_scale", "softcap", "residual_scale")),
    )


class Lora(ctypes.Structure):
    """What an adapter adds to one matrix: lora_A (R, in), lora_B (out, R), null for nothing; bias (out,) or null."""

    _fields_ = (("a", _address), ("b", _address), ("rank", _size), ("scaling", _real), ("bias", _address))


class Worn(ctypes.Structure):
    """An adapter, ``Lora`` (layers, parts), at a strength."""

    _fields_ = (("loras", ctypes.POINTER(Lora)), ("strength", _real))


class Run(ctypes.Structure):
    """Consecutive rows that wear the same adapters."""

    _fields_ = (("rows", _size), ("n_worn", _size), ("worn", ctypes.POINTER(Worn)))


class Angles(ctypes.Structure):
    """Cosine and sine of the rows' positions, (rows, half) each."""

    _fields_ = (("cosine", _address), ("sine", _address), ("half", _size))


class Step(ctypes.Structure):
    """The rows of one step, the cache they read and extend, and where the hidden states go."""

    _fields_ = (
        ("rows", _size),
        ("x", _address),
        ("out", _address),
        ("places", ctypes.POINTER(_address)),
        *((name, _address) for name in ("positions", "keys", "values")),
        ("layer_stride", _size),
        ("angles", ctypes.POINTER(Angles)),
        ("runs", ctypes.POINTER(Run)),
        ("n_runs", _size),
    )


def matrix(data: Tensor, type: str, columns: int, bias: Tensor | None) -> Matrix:
    """Describe blocks, uint8 (rows, row_bytes), and a bias (rows,). Raises ``ShapeMismatch``."""
    kind = block_type(type)
    rows, row_bytes, row_stride = native.walkable(data)
    if kind.cols(row_bytes) != columns:
        raise ShapeMismatch(f"rows of {kind.cols(row_bytes)} {type} weights where {columns} are needed")
    return Matrix(data.data_ptr(), kind.ggml_id, rows, columns, row_stride, floats(bias, rows))


def lora(a: Tensor, b: Tensor, columns: int, scaling: float, bias: Tensor | None = None) -> Lora:
    """Describe ``scaling * b @ a``, (rows, R) and (R, columns), and a bias (rows,). Raises ``ShapeMismatch``."""
    rank, rows = a.shape[0], b.shape[0]
    return Lora(floats(a, rank, columns), floats(b, rows, rank), rank, scaling, floats(bias, rows))


def floats(tensor: Tensor | None, *shape: int) -> int | None:
    """The address of a contiguous float32 tensor on the CPU; ``ShapeMismatch`` unless it has this shape."""
    if tensor is None:
        return None
    whole = tensor.is_contiguous() and tensor.is_cpu and tensor.dtype == torch.float32
    if not whole or tuple(tensor.shape) != shape:
        raise ShapeMismatch(f"contiguous float32 {shape} is needed, not {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.data_ptr()


def run(model: Model, step: Step, *, instruction_set: int | None = None) -> None:
    """Run all layers and the last norm for the rows of ``step``, on as many threads as torch has."""
    failed = native.library().nm_decode_step(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        ctypes.byref(model),
        ctypes.byref(step),
    )
    if failed:
        raise ShapeMismatch("the compiled decode step does not take these blocks")
