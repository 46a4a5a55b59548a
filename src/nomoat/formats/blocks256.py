"""Super-blocks of 256 weights: small integer scales for runs of 16 or 32, and one float16 over them.

Twins of ``csrc/blocks256.inl``. G is the number of runs in a super-block. Everywhere the scale of a run is
rounded to float32 once, before it meets the weights.
"""

from __future__ import annotations

import numpy as np

from nomoat.formats.blocks32 import IQ4_LEVELS, half, nibbles
from nomoat.formats.weights import Bytes, Floats


def _fields(packed: Bytes, run: int, bits: int) -> Bytes:
    """Unpack ``bits``-wide fields: (N, B) -> (N, B * 8 / bits).

    Bytes come in groups of ``run``; a group gives its lowest fields as ``run`` numbers, then its next ones.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]  # (8 / bits, 1)
    groups = packed.reshape(len(packed), -1, 1, run)  # (N, B / run, 1, run)
    return ((groups >> shifts) & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)


def _runs(q: Floats, groups: int) -> Floats:
    return q.reshape(len(q), groups, -1)  # (N, 256) -> (N, G, 256 / G)


def _scale(q: Floats, scales: Floats) -> Floats:
    """(N, 256) weights by (N, G) scales -> (N, 256)."""
    return (scales[:, :, None] * _runs(q, scales.shape[1])).reshape(len(q), 256)


def _scale_less(q: Floats, scales: Floats, mins: Floats) -> Floats:
    """(N, 256) weights by (N, G) scales, less (N, G) minima -> (N, 256)."""
    return (scales[:, :, None] * _runs(q, scales.shape[1]) - mins[:, :, None]).reshape(len(q), 256)


def _six_bit_pairs(packed: Bytes) -> tuple[Floats, Floats]:
    """Return 8 scales and 8 minima of 6 bits each from 12 bytes: (N, 12) -> (N, 8), (N, 8).

    Bytes 0-3 hold scales 0-3 in their low six bits, bytes 4-7 minima 0-3. Bytes 8-11 hold the low nibbles of
    scales and minima 4-7, whose two high bits are the spare bits of bytes 0-7.
    """
    scale, low_min, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([scale & 63, (rest & 15) | (scale >> 6 << 4)], axis=1)
    mins = np.concatenate([low_min & 63, (rest >> 4) | (low_min >> 6 << 4)], axis=1)
    return scales.astype(np.float32), mins.astype(np.float32)


def q2_k(blocks: Bytes) -> Floats:
    """16 x (scale, min: 4 bits), 64 bytes of 2-bit q, d:f16, dmin:f16; w = d scale q - dmin min; G = 16."""
    scales = half(blocks, 80) * (blocks[:, :16] & 15).astype(np.float32)
    mins = half(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32)
    return _scale_less(_fields(blocks[:, 16:80], 32, 2).astype(np.float32), scales, mins)


def q3_k(blocks: Bytes) -> Floats:
    """32 bytes of third bits, 64 of 2-bit q, 12 of 6-bit scales, d:f16; w = d (scale - 32) q; G = 16.

    A third bit of 0 means minus four. Of the scales, bytes 0-7 hold low nibbles, bytes 8-11 high bits.
    """
    low = _fields(blocks[:, 96:104], 8, 4)  # (N, 16)
    high = _fields(blocks[:, 104:108], 4, 2)  # (N, 16)
    scales = ((low | (high << 4)).view(np.int8) - np.int8(32)).astype(np.float32)
    third = _fields(blocks[:, :32], 32, 1)  # (N, 256)
    q = (_fields(blocks[:, 32:96], 32, 2) | (third << 2)).view(np.int8) - np.int8(4)
    return _scale(q.astype(np.float32), half(blocks, 108) * scales)


def q4_k(blocks: Bytes) -> Floats:
    """d:f16, dmin:f16, 12 bytes of scales and minima, 128 of nibbles; w = d scale q - dmin min; G = 8."""
    scales, mins = _six_bit_pairs(blocks[:, 4:16])
    q = _fields(blocks[:, 16:144], 32, 4)
    return _scale_less(q.astype(np.float32), half(blocks, 0) * scales, half(blocks, 2) * mins)


def q5_k(blocks: Bytes) -> Floats:
    """As Q4_K, with 32 bytes of fifth bits before the nibbles; bit g of byte j is that of weight 32 g + j."""
    scales, mins = _six_bit_pairs(blocks[:, 4:16])
    q = _fields(blocks[:, 48:176], 32, 4) | (_fields(blocks[:, 16:48], 32, 1) << 4)
    return _scale_less(q.astype(np.float32), half(blocks, 0) * scales, half(blocks, 2) * mins)


def q6_k(blocks: Bytes) -> Floats:
    """128 bytes of low nibbles, 64 of high bits, 16 signed scales, d:f16; w = d scale (q - 32); G = 16."""
    q = _fields(blocks[:, :128], 64, 4) | (_fields(blocks[:, 128:192], 32, 2) << 4)
    scales = half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _scale((q.view(np.int8) - np.int8(32)).astype(np.float32), scales)


def iq4_xs(blocks: Bytes) -> Floats:
    """d:f16, 2 + 4 bytes of 6-bit scales, 128 bytes of nibbles; w = d (scale - 32) LEVELS[q]; G = 8.

    Each run of 32 weights keeps its nibbles in 16 bytes of its own, low nibbles first.
    """
    low = _fields(blocks[:, 4:8], 1, 4)  # (N, 8)
    high = _fields(blocks[:, 2:4], 1, 2)  # (N, 8)
    scales = ((low | (high << 4)).view(np.int8) - np.int8(32)).astype(np.float32)
    q = nibbles(blocks[:, 8:136].reshape(-1, 16)).reshape(-1, 256)
    return _scale(IQ4_LEVELS[q], half(blocks, 0) * scales)
