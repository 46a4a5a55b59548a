"""Weights to blocks of 32: the way back from ``blocks32.py``.

Without an importance the scale comes from the extremes alone, as in the reference of ggml (``quantize_row_*_ref`` in
ggml-quants.c); with one it is searched for (``search``). x and importance (N, 32) -> blocks (N, type_size).
"""

from __future__ import annotations

import numpy as np

from nomoat.formats.fit import Search, about, from_level, inverse, peak
from nomoat.formats.weights import Array, Bytes, Floats


def half_bytes(values: Floats) -> Bytes:
    """(N, 1) as two bytes of float16 each: (N, 2)."""
    return values.astype("<f2").view(np.uint8)


def packed_nibbles(q: Bytes) -> Bytes:
    """4-bit numbers (N, 2 B), first half low and second half high: (N, B)."""
    low, high = np.split(q & 15, 2, axis=1)
    packed: Bytes = low | (high << 4)
    return packed


def _fifth_bits(q: Bytes) -> Bytes:
    packed: Bytes = np.packbits(q >> 4, axis=1, bitorder="little")
    return packed


def _joined(*parts: Bytes) -> Bytes:
    return np.concatenate(parts, axis=1)


def _signed(x: Floats, importance: Floats | None, levels: int, search: Search) -> tuple[Floats, Bytes]:
    """Scale and q + levels, q from -levels to levels - 1."""
    if importance is not None:
        scale = search.scale(x, importance * np.sqrt(_mean_square(x) + x * x), levels, about(levels))
        # against the scale as it will be stored
        return scale, _whole(x * inverse(_stored(scale)) + np.float32(levels), 2 * levels - 1)
    scale = peak(x) / np.float32(-levels)
    # ggml multiplies and adds in one instruction, which rounds once
    q = (x.astype(np.float64) * inverse(scale).astype(np.float64) + (levels + 0.5)).astype(np.float32)
    return scale, np.clip(np.trunc(q), 0, 2 * levels - 1).astype(np.uint8)


def _affine(x: Floats, importance: Floats | None, top: int, search: Search) -> tuple[Floats, Floats, Bytes]:
    """Scale, offset and q from 0 to top."""
    if importance is not None:
        weights = importance * np.sqrt(_mean_square(x) + x * x)
        scale, offset = search.line(x, weights, top, from_level(top, -0.5, 15))
        q = (x - _stored(offset)) * inverse(_stored(scale))
        return scale, offset, _whole(q, top)
    offset = x.min(axis=1, keepdims=True)
    scale = (x.max(axis=1, keepdims=True) - offset) / np.float32(top)
    q = np.trunc((x - offset) * inverse(scale) + np.float32(0.5))
    return scale, offset, np.clip(q, 0, top).astype(np.uint8)


def _mean_square(x: Floats) -> Floats:
    square: Floats = np.square(x).mean(axis=1, keepdims=True)
    return square


def _stored(values: Floats) -> Floats:
    return values.astype("<f2").astype(np.float32)


def _whole(q: Array, top: int) -> Bytes:
    return np.clip(np.rint(q), 0, top).astype(np.uint8)


def q4_0(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    scale, q = _signed(x, importance, 8, search)
    return _joined(half_bytes(scale), packed_nibbles(q))


def q4_1(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    scale, offset, q = _affine(x, importance, 15, search)
    return _joined(half_bytes(scale), half_bytes(offset), packed_nibbles(q))


def q5_0(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    scale, q = _signed(x, importance, 16, search)
    return _joined(half_bytes(scale), _fifth_bits(q), packed_nibbles(q))


def q5_1(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    scale, offset, q = _affine(x, importance, 31, search)
    return _joined(half_bytes(scale), half_bytes(offset), _fifth_bits(q), packed_nibbles(q))


def q8_0(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    """Eight bits leave nothing for an importance to win."""
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    q = x * inverse(scale)
    away = np.trunc(q + np.copysign(np.float32(0.5), q))  # halves away from zero, as C's roundf
    return _joined(half_bytes(scale), away.astype(np.int8).view(np.uint8))
