"""The compiled eight-bit kernels, called through ctypes: every shape is checked before a pointer is handed over."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import native
from nomoat.kernels.memory import empty

SETS: Final = native.LEVELS  # by the number the library gives them; on Arm 1 is "neon-dot"
_BLOCK: Final = 64
_QUICK_STEPS: Final = ("avx-vnni", "avx512", "amx")  # not on Arm: float32 may have tiles there, and nobody measured
_QUICK: Final = (*_QUICK_STEPS, "neon-dot")  # where such a product is several times a float32 one


def instruction_sets() -> dict[int, str]:
    """Return the instruction sets that this machine has by their numbers, best last; empty if not built."""
    if not native.built():
        return {}
    library, found = native.library(), dict[int, str]()
    for number in range(len(SETS)):
        name = library.nm_int8_instruction_set(number).decode()
        if name not in found.values():
            found[number] = name
    return found


def instruction_set() -> str:
    """The one that is used here; nothing where the library is not built."""
    found = instruction_sets()
    return found[max(number for number in found if number <= native.chosen(None, SETS))] if found else ""


def is_quick() -> bool:
    """Whether this processor multiplies eight-bit integers much faster than float32 numbers."""
    return native.available() and instruction_set() in _QUICK


def makes_quick_steps() -> bool:
    """Whether whole steps of training are quicker by it than in float32."""
    return native.available() and instruction_set() in _QUICK_STEPS


def quantize(
    x: Tensor, group: int, rotated: bool, kept: Tensor, *, instruction_set: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Float32 (M, K) -> uint8 (M, depth), each 128 too large, scales (M, G), and the kept columns (M, C)."""
    if x.stride(1) != 1 or x.stride(0) < x.shape[1]:
        x = x.contiguous()
    _check("x", x, torch.float32, x.shape, whole=False)
    m, columns = x.shape
    kept = kept.contiguous()
    _check("kept", kept, torch.int64, (kept.numel(),))
    if kept.numel() and not (kept[0] >= 0 and kept[-1] < columns and (kept.diff() > 0).all()):
        raise ShapeMismatch(f"kept columns must rise from 0 to at most {columns - 1}")
    depth = -(-columns // _BLOCK) * _BLOCK
    bytes = torch.empty(m, depth, dtype=torch.uint8)
    scales, kept_values = torch.empty(m, -(-depth // group)), torch.empty(m, kept.numel())
    failed = native.library().nm_int8_quantize(
        native.chosen(instruction_set, SETS),
        torch.get_num_threads(),
        x.data_ptr(),
        m,
        columns,
        x.stride(0) if m > 1 else columns,
        group,
        int(rotated),
        kept.data_ptr(),
        kept.numel(),
        bytes.data_ptr(),
        scales.data_ptr(),
        kept_values.data_ptr(),
    )
    if failed:
        raise ShapeMismatch(f"rows of {columns} columns cannot be quantized in groups of {group}")
    return bytes, scales, kept_values


def product(
    bytes: Tensor,
    row_scales: Tensor,
    kept_values: Tensor,
    weights: Tensor,
    weight_scales: Tensor,
    starts: Tensor,
    kept_weights: Tensor,
    *,
    group: int,
    outputs: int,
    bias: Tensor | None,
    add_to: Tensor | None = None,
    instruction_set: int | None = None,
) -> Tensor:
    """Sum of the groups' integer products, scaled, and of the kept columns; added to ``add_to`` if given. -> (M, N)."""
    m, depth = bytes.shape
    groups, panels, n_kept = -(-depth // group), -(-outputs // 64), kept_values.shape[1]
    _check("bytes", bytes, torch.uint8, (m, depth))
    _check("row_scales", row_scales, torch.float32, (m, groups))
    _check("kept_values", kept_values, torch.float32, (m, n_kept))
    _check("weights", weights, torch.int8, (panels, depth // 4, 64, 4))
    _check("weight_scales", weight_scales, torch.float32, (panels, groups, 64))
    _check("starts", starts, torch.int32, (panels, groups, 64))
    _check("kept_weights", kept_weights, torch.float32, (panels, n_kept, 64))
    if bias is not None:
        bias = bias.contiguous()
        _check("bias", bias, torch.float32, (outputs,))
    y = empty(m, outputs) if add_to is None else add_to
    _check("add_to", y, torch.float32, (m, outputs))
    failed = native.library().nm_int8_product(
        native.chosen(instruction_set, SETS),
        torch.get_num_threads(),
        bytes.data_ptr(),
        row_scales.data_ptr(),
        kept_values.data_ptr(),
        m,
        depth,
        group,
        weights.data_ptr(),
        weight_scales.data_ptr(),
        starts.data_ptr(),
        kept_weights.data_ptr(),
        n_kept,
        outputs,
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        outputs,
        int(add_to is not None),
    )
    if failed:
        raise ShapeMismatch(f"no product of {depth} columns in groups of {group}")
    return y


def _check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], *, whole: bool = True) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape) or not tensor.is_cpu:
        raise ShapeMismatch(
            f"{name} must be {dtype} {tuple(shape)} on the CPU, not {tensor.dtype} {tuple(tensor.shape)}"
            f" on {tensor.device}"
        )
    if whole and not tensor.is_contiguous():
        raise ShapeMismatch(f"{name} must be contiguous, not strided {tensor.stride()}")
