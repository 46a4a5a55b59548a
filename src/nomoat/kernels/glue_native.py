"""The compiled glue of ``csrc/glue.cpp``, called through ctypes: shapes are checked before a pointer is handed over.

All tensors are float32 on the CPU. ``usable`` says whether the kernels may be asked at all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import native
from nomoat.kernels.memory import empty

_ACTIVATIONS: Final = {"silu": 0, "gelu_tanh": 1}


class AdamWPiece(ctypes.Structure):
    """One parameter in an update: pointers, its number of values, its rate and its decay."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("square", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("step", ctypes.c_float),
        ("decay", ctypes.c_float),
    )


def usable(*tensors: Tensor) -> bool:
    """Whether the compiled kernels are there and take these tensors."""
    return all(each.is_cpu and each.dtype == torch.float32 for each in tensors) and native.available()


def rms_norm(
    x: Tensor, added: Tensor | None, alpha: float, weight: Tensor, eps: float, *, instruction_set: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """h = x + alpha * added, its norm, and the inverse of each row's root mean square: (n, D), (n, D), (n, 1)."""
    x, added, weight = x.contiguous(), None if added is None else added.contiguous(), weight.contiguous()
    _check("weight", weight, (x.shape[-1],))
    if added is not None:
        _check("added", added, tuple(x.shape))
    h = x if added is None else empty(*x.shape)
    y, inverse = empty(*x.shape), empty(*x.shape[:-1], 1)
    _library().nm_rms_norm(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        x.data_ptr(),
        None if added is None else added.data_ptr(),
        alpha,
        weight.data_ptr(),
        eps,
        inverse.numel(),
        x.shape[-1],
        h.data_ptr(),
        y.data_ptr(),
        inverse.data_ptr(),
    )
    return h, y, inverse


def rms_norm_backward(
    grad: Tensor,
    h: Tensor,
    inverse: Tensor,
    weight: Tensor,
    beyond: Tensor | None,
    *,
    instruction_set: int | None = None,
) -> Tensor:
    """Gradient of h: through the norm, and ``beyond`` where h is also used elsewhere. (n, D)."""
    grad, beyond, weight = grad.contiguous(), None if beyond is None else beyond.contiguous(), weight.contiguous()
    for name, tensor in (("grad", grad), ("h", h), *([("beyond", beyond)] if beyond is not None else [])):
        _check(name, tensor, tuple(grad.shape))
    _check("weight", weight, (grad.shape[-1],))
    _check("inverse", inverse, (*grad.shape[:-1], 1))
    out = empty(*grad.shape)
    _library().nm_rms_norm_back(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        grad.data_ptr(),
        h.data_ptr(),
        inverse.data_ptr(),
        weight.data_ptr(),
        None if beyond is None else beyond.data_ptr(),
        inverse.numel(),
        grad.shape[-1],
        out.data_ptr(),
    )
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool, instruction_set: int | None = None) -> Tensor:
    """Turn the pairs of each head. (T, H, C), (T, 1, half) x 2 -> (T, H, C) without gaps."""
    tokens, heads, width = x.shape
    if x.stride(2) != 1 or x.stride(1) != width:
        x = x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    half = cos.shape[-1]
    _check("x", x, (tokens, heads, width), rows_apart=True)
    _check("cos", cos, (tokens, 1, half))
    _check("sin", sin, (tokens, 1, half))
    if 2 * half > width:
        raise ShapeMismatch(f"{2 * half} of {width} columns cannot turn")
    out = empty(tokens, heads, width)
    _library().nm_rotate(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        x.data_ptr(),
        tokens,
        heads,
        width,
        x.stride(0),
        half,
        cos.data_ptr(),
        sin.data_ptr(),
        -1.0 if back else 1.0,
        out.data_ptr(),
    )
    return out


def gated(gate: Tensor, up: Tensor, activation: str, *, instruction_set: int | None = None) -> Tensor:
    """``act(gate) * up``. (n, F) x 2, rows may lie apart -> (n, F)."""
    gate, up = _rows(gate), _rows(up)
    _check("up", up, tuple(gate.shape), rows_apart=True)
    out = empty(*gate.shape)
    _library().nm_gated(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        _ACTIVATIONS[activation],
        gate.data_ptr(),
        up.data_ptr(),
        *gate.shape,
        gate.stride(0),
        up.stride(0),
        out.data_ptr(),
    )
    return out


def gated_backward(
    gate: Tensor, up: Tensor, grad: Tensor, activation: str, *, instruction_set: int | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up. (n, F) x 3 -> (n, F) x 2."""
    gate, up, grad = _rows(gate), _rows(up), grad.contiguous()
    _check("up", up, tuple(gate.shape), rows_apart=True)
    _check("grad", grad, tuple(gate.shape))
    grad_gate, grad_up = empty(*grad.shape), empty(*grad.shape)
    _library().nm_gated_back(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        _ACTIVATIONS[activation],
        gate.data_ptr(),
        up.data_ptr(),
        grad.data_ptr(),
        *gate.shape,
        gate.stride(0),
        up.stride(0),
        grad_gate.data_ptr(),
        grad_up.data_ptr(),
        grad_gate.stride(0),
        grad_up.stride(0),
    )
    return grad_gate, grad_up


def adamw_piece(value: Tensor, mean: Tensor, square: Tensor, *, step: float, decay: float) -> AdamWPiece:
    """A parameter with its gradient as ``adamw`` takes it; the tensors must live until then."""
    grad = value.grad
    if grad is None:
        raise ShapeMismatch("a parameter without a gradient does not move")
    if not grad.is_contiguous():
        value.grad = grad = grad.contiguous()
    for name, tensor in (("value", value), ("mean", mean), ("square", square), ("gradient", grad)):
        _check(name, tensor, tuple(value.shape))
    pointers = (value.data_ptr(), mean.data_ptr(), square.data_ptr(), grad.data_ptr())
    return AdamWPiece(*pointers, value.numel(), step, decay)


def adamw(
    pieces: Sequence[AdamWPiece],
    beta1: float,
    beta2: float,
    eps: float,
    updates: int,
    *,
    instruction_set: int | None = None,
) -> None:
    """Move every piece's values and moments in place; ``step`` of a piece is its rate over the mean's bias."""
    array = (AdamWPiece * len(pieces))(*pieces)
    root = (1 - beta2**updates) ** 0.5
    _library().nm_adamw(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        array,
        len(pieces),
        1 - beta1,
        beta2,
        1 - beta2,
        root,
        eps,
    )


def _rows(x: Tensor) -> Tensor:
    """A matrix whose rows have no gaps inside; they may lie apart."""
    return x if x.ndim == 2 and x.stride(1) == 1 and x.stride(0) >= x.shape[1] else x.contiguous()


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], *, rows_apart: bool = False) -> None:
    if tensor.dtype != torch.float32 or not tensor.is_cpu or tuple(tensor.shape) != shape:
        raise ShapeMismatch(
            f"{name} must be float32 {shape} on the CPU, not {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        )
    if not rows_apart and not tensor.is_contiguous():
        raise ShapeMismatch(f"{name} must be without gaps, not strided {tensor.stride()}")


@cache
def _library() -> ctypes.CDLL:
    library = native.library()
    number, size, real, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    how = [number, number]  # instruction set, threads
    library.nm_rms_norm.argtypes = [*how, pointer, pointer, real, pointer, real, size, size, *[pointer] * 3]
    library.nm_rms_norm_back.argtypes = [*how, *[pointer] * 5, size, size, pointer]
    library.nm_rotate.argtypes = [*how, pointer, *[size] * 5, pointer, pointer, real, pointer]
    library.nm_gated.argtypes = [*how, number, pointer, pointer, *[size] * 4, pointer]
    library.nm_gated_back.argtypes = [*how, number, *[pointer] * 3, *[size] * 4, pointer, pointer, size, size]
    library.nm_adamw.argtypes = [*how, pointer, size, *[real] * 5]
    for function in (library.nm_rms_norm, library.nm_rms_norm_back, library.nm_rotate, library.nm_gated):
        function.restype = None
    library.nm_gated_back.restype = library.nm_adamw.restype = None
    return library
