"""The compiled attention of ``csrc/attention.cpp``: shapes are checked before a pointer is handed over."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nomoat.core.errors import ResourceError, ShapeMismatch
from nomoat.kernels import native
from nomoat.kernels.attention_reference import Shape
from nomoat.kernels.memory import empty


def usable(*tensors: Tensor) -> bool:
    """Whether the compiled kernels are there and take these tensors."""
    return all(each.is_cpu and each.dtype == torch.float32 for each in tensors) and native.available()


def forward(
    q: Tensor, k: Tensor, v: Tensor, shape: Shape, *, instruction_set: int | None = None, on_tiles: bool = False
) -> tuple[Tensor, Tensor]:
    """The weighted values (T, H, C), and each head's largest score and inverse sum (T, H, 2).

    ``on_tiles``: every float32 number is taken as the sum of two in bfloat16, where ``native.has_tiles``.
    """
    q, k, v = _heads_together(q), _heads_together(k), _heads_together(v)
    keys, queries = _rows(q, k, v, shape)
    out, peaks = empty(*q.shape), empty(*q.shape[:2], 2)
    failed = _library().nm_attention(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        int(on_tiles and native.has_tiles()),
        *_places(q, k, v, keys),
        queries.data_ptr(),
        *_sizes(shape),
        out.data_ptr(),
        peaks.data_ptr(),
    )
    _check_memory(failed)
    return out, peaks


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    peaks: Tensor,
    grad: Tensor,
    shape: Shape,
    *,
    instruction_set: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v from that of ``out``, which ``forward`` gave along with ``peaks``."""
    q, k, v, grad = _heads_together(q), _heads_together(k), _heads_together(v), grad.contiguous()
    if any(shape.starts):
        raise ShapeMismatch("attention has no gradient where only the last tokens of a document are queries")
    rows, _ = _rows(q, k, v, shape)
    for name, tensor, wanted in (("out", out, q.shape), ("grad", grad, q.shape), ("peaks", peaks, (*q.shape[:2], 2))):
        if tensor.dtype != torch.float32 or tensor.shape != wanted or not tensor.is_contiguous():
            raise ShapeMismatch(f"{name} must be float32 {tuple(wanted)} without gaps, not {tuple(tensor.shape)}")
    grads = [empty(*q.shape) for _ in range(3)]
    failed = _library().nm_attention_back(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        *_places(q, k, v, rows),
        *_sizes(shape),
        *(tensor.data_ptr() for tensor in (out, peaks, grad, *grads)),
    )
    _check_memory(failed)
    return grads[0], _joined(grads[1], k, instruction_set), _joined(grads[2], v, instruction_set)


def _joined(grad: Tensor, like: Tensor, instruction_set: int | None) -> Tensor:
    """(T, H, C) -> (T, K, C): the heads that share a key-value head, added."""
    tokens, kv_heads, width = like.shape
    if grad.shape[1] == kv_heads:
        return grad
    out, group = empty(*like.shape), grad.shape[1] // kv_heads
    _library().nm_join_heads(
        native.chosen(instruction_set),
        torch.get_num_threads(),
        grad.data_ptr(),
        tokens * kv_heads,
        group,
        width,
        out.data_ptr(),
    )
    return out


def _heads_together(x: Tensor) -> Tensor:
    """A token's heads one after the other; tokens may lie apart."""
    return x if x.ndim == 3 and x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def _rows(q: Tensor, k: Tensor, v: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Where documents' keys and their queries begin, and the end, int64; ``ShapeMismatch`` unless all shapes agree."""
    tokens, heads, width = q.shape
    starts = shape.starts or (0,) * len(shape.lengths)
    n_keys = tokens + sum(starts)
    fits = k.shape == v.shape == (n_keys, k.shape[1], width) and k.shape[1] > 0 and heads % k.shape[1] == 0
    floats = all(each.dtype == torch.float32 and each.is_cpu for each in (q, k, v))
    whole = sum(shape.lengths) == tokens and len(starts) == len(shape.lengths)
    whole = whole and all(n >= 0 for n in (*shape.lengths, *starts))
    if not fits or not floats or not whole:
        raise ShapeMismatch(
            f"attention over {sum(shape.lengths)} tokens of float32 q (T, H, C), k and v (T, K, C) on the CPU, "
            f"{sum(starts)} keys before them, not {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if shape.window is not None and shape.window < 1:
        raise ShapeMismatch(f"a token sees at least itself, so a window of {shape.window} cannot be")
    ends = [start + length for start, length in zip(starts, shape.lengths)]
    return torch.tensor((0, *ends)).cumsum(0), torch.tensor((0, *shape.lengths)).cumsum(0)


def _places(q: Tensor, k: Tensor, v: Tensor, keys: Tensor) -> tuple[int, ...]:
    return (
        *(tensor.data_ptr() for tensor in (q, k, v)),
        *(tensor.stride(0) for tensor in (q, k, v)),
        q.shape[1],
        k.shape[1],
        q.shape[2],
        keys.data_ptr(),
    )


def _sizes(shape: Shape) -> tuple[int | float, ...]:
    return len(shape.lengths), shape.scale, shape.softcap or 0.0, shape.window or 0


def _check_memory(failed: int) -> None:
    if failed:
        raise ResourceError("there is no memory left for attention", hint="give a smaller --pack-tokens")


@cache
def _library() -> ctypes.CDLL:
    library = native.library()
    number, size, real, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    places: list[Any] = [number, number, *[pointer] * 3, *[size] * 6, pointer]
    sizes: list[Any] = [size, real, real, size]
    library.nm_attention.argtypes = [number, *places, pointer, *sizes, pointer, pointer]
    library.nm_attention_back.argtypes = [*places, *sizes, *[pointer] * 6]
    library.nm_join_heads.argtypes = [number, number, pointer, *[size] * 3, pointer]
    library.nm_join_heads.restype = None
    return library
