"""Stored blocks in torch operations, for any device: the twins of ``csrc/``.

``formats/blocks32.py`` and ``formats/blocks256.py`` describe the layouts. N is the number of blocks, G of runs of
weights under one scale. Same operations, same order, same bits as there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.formats.blocks import block_type
from nomoat.formats.blocks32 import IQ4_LEVELS

WEIGHTS_AT_A_TIME = 1 << 20
ROWS_AT_A_TIME = 4096  # of an expanded matrix in matmul_small: 16 MB at 1,024 columns


def expand(data: Tensor, type: str, out: Tensor | None = None) -> Tensor:
    """Return the weights of ``data``, uint8 (rows, row_bytes), as float32 (rows, cols), in ``out`` if given."""
    kind = block_type(type)
    if data.dtype != torch.uint8 or data.ndim != 2:
        raise ShapeMismatch(f"blocks are uint8 (rows, row_bytes), not {data.dtype} {tuple(data.shape)}")
    rows, cols = data.shape[0], kind.cols(data.shape[1])
    if out is None:
        out = torch.empty(rows, cols, device=data.device)
    if out.dtype != torch.float32 or tuple(out.shape) != (rows, cols):
        raise ShapeMismatch(f"out must be float32 {(rows, cols)}, not {out.dtype} {tuple(out.shape)}")
    # On a CPU some rows at a time: a whole embedding would need ten times its size for what lies between the steps.
    step = max(1, WEIGHTS_AT_A_TIME // max(1, cols)) if data.is_cpu else max(1, rows)
    for part, place in zip(torch.split(data, step), torch.split(out, step), strict=True):
        blocks = part.reshape(part.shape[0] * cols // kind.block_size, kind.type_size)
        place.copy_(_EXPAND[type](blocks).view(place.shape))
    return out


def matmul_small(x: Tensor, data: Tensor, type: str) -> Tensor:
    """Return x @ W.T, float32 (M, rows), for x float32 (M, cols) and W stored in ``data``."""
    cols = block_type(type).cols(data.shape[1])
    if x.dtype != torch.float32 or x.ndim != 2 or x.shape[1] != cols:
        raise ShapeMismatch(f"x must be float32 (M, {cols}), not {x.dtype} {tuple(x.shape)}")
    parts = [x @ expand(part, type).T for part in torch.split(data, ROWS_AT_A_TIME)]
    return torch.cat(parts, dim=1)


def _half(blocks: Tensor, at: int) -> Tensor:
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()  # (N, 1)


def _signed(bytes: Tensor) -> Tensor:
    return bytes.contiguous().view(torch.int8)


def _fields(packed: Tensor, run: int, bits: int) -> Tensor:
    """Unpack ``bits``-wide fields, (N, B) -> (N, B * 8 / bits): of each ``run`` bytes the lowest fields first."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)[:, None]
    groups = packed.reshape(packed.shape[0], packed.shape[1] // run, 1, run)
    return ((groups >> shifts) & ((1 << bits) - 1)).flatten(1)


def _levels(q: Tensor) -> Tensor:
    return torch.from_numpy(IQ4_LEVELS).to(q.device).index_select(0, q.flatten().int()).view(q.shape)


def _runs(q: Tensor, scales: Tensor) -> Tensor:
    return q.view(q.shape[0], scales.shape[1], q.shape[1] // scales.shape[1])  # (N, G, 256 / G)


def _scale(q: Tensor, scales: Tensor) -> Tensor:
    return (scales[:, :, None] * _runs(q, scales)).flatten(1)


def _scale_less(q: Tensor, scales: Tensor, mins: Tensor) -> Tensor:
    return (scales[:, :, None] * _runs(q, scales) - mins[:, :, None]).flatten(1)


def _six_bit_pairs(packed: Tensor) -> tuple[Tensor, Tensor]:
    scale, low_min, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat([scale & 63, (rest & 15) | (scale >> 6 << 4)], dim=1)
    mins = torch.cat([low_min & 63, (rest >> 4) | (low_min >> 6 << 4)], dim=1)
    return scales.float(), mins.float()


def _f32(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float32)


def _f16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float16).float()


def _bf16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.bfloat16).float()


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_fields(blocks[:, 2:18], 16, 4).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _fields(blocks[:, 4:20], 16, 4).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    q = _fields(blocks[:, 6:22], 16, 4) | (_fields(blocks[:, 2:6], 1, 1) << 4)
    return _half(blocks, 0) * (q.float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    q = _fields(blocks[:, 8:24], 16, 4) | (_fields(blocks[:, 4:8], 1, 1) << 4)
    return _half(blocks, 0) * q.float() + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _signed(blocks[:, 2:34]).float()


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _levels(_fields(blocks[:, 2:18], 16, 4))


def _q2_k(blocks: Tensor) -> Tensor:
    scales = _half(blocks, 80) * (blocks[:, :16] & 15).float()
    mins = _half(blocks, 82) * (blocks[:, :16] >> 4).float()
    return _scale_less(_fields(blocks[:, 16:80], 32, 2).float(), scales, mins)


def _q3_k(blocks: Tensor) -> Tensor:
    scales = _fields(blocks[:, 96:104], 8, 4) | (_fields(blocks[:, 104:108], 4, 2) << 4)
    q = _fields(blocks[:, 32:96], 32, 2) | (_fields(blocks[:, :32], 32, 1) << 2)
    return _scale(q.float() - 4, _half(blocks, 108) * (scales.float() - 32))


def _q4_k(blocks: Tensor) -> Tensor:
    scales, mins = _six_bit_pairs(blocks[:, 4:16])
    q = _fields(blocks[:, 16:144], 32, 4)
    return _scale_less(q.float(), _half(blocks, 0) * scales, _half(blocks, 2) * mins)


def _q5_k(blocks: Tensor) -> Tensor:
    scales, mins = _six_bit_pairs(blocks[:, 4:16])
    q = _fields(blocks[:, 48:176], 32, 4) | (_fields(blocks[:, 16:48], 32, 1) << 4)
    return _scale_less(q.float(), _half(blocks, 0) * scales, _half(blocks, 2) * mins)


def _q6_k(blocks: Tensor) -> Tensor:
    q = _fields(blocks[:, :128], 64, 4) | (_fields(blocks[:, 128:192], 32, 2) << 4)
    return _scale(q.float() - 32, _half(blocks, 208) * _signed(blocks[:, 192:208]).float())


def _iq4_xs(blocks: Tensor) -> Tensor:
    scales = _fields(blocks[:, 4:8], 1, 4) | (_fields(blocks[:, 2:4], 1, 2) << 4)
    return _scale(_levels(_fields(blocks[:, 8:136], 16, 4)), _half(blocks, 0) * (scales.float() - 32))


# blocks uint8 (N, type_size) -> float32 (N, block_size)
_EXPAND: dict[str, Callable[[Tensor], Tensor]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "IQ4_NL": _iq4_nl,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_XS": _iq4_xs,
}
