"""Blocks of 32 weights with one scale, and for the ``_1`` types one offset: twins of ``csrc/blocks32.inl``.

In the 4 and 5 bit types the low nibble of byte j is weight j, the high nibble weight j + 16.
"""

from __future__ import annotations

import numpy as np

from nomoat.formats.weights import Array, Bytes, Floats

# The 16 levels of the IQ4 types: finer near zero, where most weights are (kvalues_iq4nl in ggml-common.h).
IQ4_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32)


def half(blocks: Bytes, at: int) -> Floats:
    """Return the float16 at byte ``at`` of every block as float32 (N, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def nibbles(packed: Bytes) -> Bytes:
    """Return 4-bit numbers (N, 2 B) of packed bytes (N, B): all low nibbles, then all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    """Return the 32 bits at bytes ``at`` to ``at + 4``, lowest first, as 0 or 16: (N, 32)."""
    bits: Bytes = np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little")
    return bits << np.uint8(4)


def _signed(q: Bytes, zero: int) -> Floats:
    return _plain(q.view(np.int8) - np.int8(zero))


def _plain(q: Array) -> Floats:
    return q.astype(np.float32)


def q4_0(blocks: Bytes) -> Floats:
    """d:f16, 16 bytes of nibbles; w = d (q - 8)."""
    return half(blocks, 0) * _signed(nibbles(blocks[:, 2:18]), 8)


def q4_1(blocks: Bytes) -> Floats:
    """d:f16, m:f16, 16 bytes of nibbles; w = d q + m."""
    return half(blocks, 0) * _plain(nibbles(blocks[:, 4:20])) + half(blocks, 2)


def q5_0(blocks: Bytes) -> Floats:
    """d:f16, 4 bytes of fifth bits, 16 bytes of nibbles; w = d (q - 16)."""
    return half(blocks, 0) * _signed(nibbles(blocks[:, 6:22]) | _fifth_bits(blocks, 2), 16)


def q5_1(blocks: Bytes) -> Floats:
    """d:f16, m:f16, 4 bytes of fifth bits, 16 bytes of nibbles; w = d q + m."""
    return half(blocks, 0) * _plain(nibbles(blocks[:, 8:24]) | _fifth_bits(blocks, 4)) + half(blocks, 2)


def q8_0(blocks: Bytes) -> Floats:
    """d:f16, 32 signed bytes; w = d q."""
    return half(blocks, 0) * _plain(blocks[:, 2:34].view(np.int8))


def iq4_nl(blocks: Bytes) -> Floats:
    """d:f16, 16 bytes of nibbles; w = d LEVELS[q]."""
    return half(blocks, 0) * IQ4_LEVELS[nibbles(blocks[:, 2:18])]
