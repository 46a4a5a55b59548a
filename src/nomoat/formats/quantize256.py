"""Weights to super-blocks of 256: the way back from ``blocks256.py``.

Every run gets its scale (and minimum) by search, the scales of a super-block are then written in 6 or 8 bits under one
float16, and the weights are rounded once more against what is really stored. x and importance (N, 256) -> blocks
(N, type_size); G is the number of runs in a super-block.
"""

from __future__ import annotations

import numpy as np

from nomoat.formats.fit import Search, about, best_share, from_level, inverse, peak
from nomoat.formats.quantize32 import half_bytes
from nomoat.formats.weights import Array, Bytes, Floats


def _packed(q: Array, run: int, bits: int) -> Bytes:
    """Undo ``blocks256._fields``: (N, B * 8 / bits) numbers -> (N, B) bytes."""
    each = 8 // bits
    fields = q.reshape(len(q), -1, each, run) << np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    packed: Bytes = np.bitwise_or.reduce(fields, axis=2).reshape(len(q), -1)
    return packed


def _half(values: Floats) -> Floats:
    """What float16 makes of the values."""
    return values.astype("<f2").astype(np.float32)


def _line_weights(x: Floats, importance: Floats | None) -> Floats:
    """How much an error at each weight counts, in runs of 32: (8 N, 32). As ggml-quants.c weighs it."""
    runs = x.reshape(-1, 32)
    if importance is None:
        plain: Floats = np.abs(runs) + np.sqrt(np.square(runs).mean(axis=1, keepdims=True))
        return plain
    spread = 2 * np.square(x).mean(axis=1, keepdims=True)
    weighed: Floats = (importance * np.sqrt(spread + x * x)).reshape(-1, 32)
    return weighed


def _six_bits(values: Floats, weights: Floats) -> tuple[Floats, Bytes]:
    """Non-negative (N, G) as 6-bit numbers under one scale, which is rounded to float16 first: (N, 1), (N, G)."""
    scale = _half(best_share(values, weights, 63))
    return scale, np.clip(np.rint(values * inverse(scale)), 0, 63).astype(np.uint8)


def _packed_pairs(scales: Bytes, mins: Bytes) -> Bytes:
    """Undo ``blocks256._six_bit_pairs``: (N, 8) x 2 -> (N, 12)."""
    first = (scales[:, :4] & 63) | (scales[:, 4:] >> 4 << 6)
    second = (mins[:, :4] & 63) | (mins[:, 4:] >> 4 << 6)
    third = (scales[:, 4:] & 15) | ((mins[:, 4:] & 15) << 4)
    return np.concatenate([first, second, third], axis=1)


def _with_minima(
    x: Floats, importance: Floats | None, top: int, factors: Floats, search: Search
) -> tuple[list[Bytes], Bytes]:
    """d, dmin and packed scales of Q4_K and Q5_K, and the weights as whole numbers (N, 256).

    The offsets are fitted again under the scales as they are stored: that takes back half of what rounding those cost.
    """
    runs, weights = x.reshape(-1, 32), _line_weights(x, importance)
    totals = weights.sum(axis=1, keepdims=True)
    scale, offset = search.line(runs, weights, top, factors)
    d, scales = _six_bits(np.maximum(scale, 0).reshape(-1, 8), totals.reshape(-1, 8))
    real_scale = (d * scales).astype(np.float32).reshape(-1, 1)
    q = np.clip(np.rint((runs - offset) * inverse(real_scale)), 0, top)
    left = (weights * (runs - real_scale * q)).sum(axis=1, keepdims=True) * inverse(totals)
    dmin, mins = _six_bits(np.maximum(-left, 0).reshape(-1, 8), totals.reshape(-1, 8))
    real_min = (dmin * mins).astype(np.float32).reshape(-1, 1)
    q = np.clip(np.rint((runs + real_min) * inverse(real_scale)), 0, top)
    whole: Bytes = q.astype(np.uint8).reshape(-1, 256)
    return [half_bytes(d), half_bytes(dmin), _packed_pairs(scales, mins)], whole


def q4_k(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    head, q = _with_minima(x, importance, 15, from_level(15, -1.0, 20), search)
    return np.concatenate([*head, _packed(q, 32, 4)], axis=1)


def q5_k(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    head, q = _with_minima(x, importance, 31, from_level(31, -0.5, 15), search)
    return np.concatenate([*head, _packed(q >> 4, 32, 1), _packed(q & 15, 32, 4)], axis=1)


def q6_k(x: Floats, importance: Floats | None, search: Search) -> Bytes:
    runs = x.reshape(-1, 16)
    weights = runs * runs if importance is None else np.ascontiguousarray(importance).reshape(-1, 16)
    scale = search.scale(runs, weights, 32, about(32)).reshape(-1, 16)
    d = _half(peak(scale) / np.float32(-128))
    scales = np.clip(np.rint(scale * inverse(d)), -128, 127).astype(np.int8)
    real = (d * scales.astype(np.float32))[:, :, None]
    q = np.clip(np.rint(x.reshape(-1, 16, 16) * inverse(real)), -32, 31) + 32
    whole: Bytes = q.astype(np.uint8).reshape(-1, 256)
    low, high = _packed(whole & 15, 64, 4), _packed(whole >> 4, 32, 2)
    return np.concatenate([low, high, scales.view(np.uint8), half_bytes(d)], axis=1)
