"""The tensor types we read, and how stored blocks become float32.

A row of weights is stored as blocks of 1, 32 or 256 weights. Layouts are those of ``ggml-common.h`` in ggml;
all multi-byte fields are little-endian. The functions here are the readable twins of ``csrc/``: the same
operations in the same order, each rounded to float32, so that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nomoat.core.errors import ShapeMismatch, UnsupportedType
from nomoat.formats import blocks32, blocks256
from nomoat.formats.weights import Bytes, Floats


@dataclass(frozen=True)
class BlockType:
    """``type_size`` bytes hold ``block_size`` weights; ``ggml_id`` is the number GGUF files use."""

    name: str
    ggml_id: int
    block_size: int
    type_size: int

    def row_bytes(self, cols: int) -> int:
        """Return the bytes of a row of ``cols`` weights; ``ShapeMismatch`` if that is not whole blocks."""
        if cols % self.block_size:
            raise ShapeMismatch(f"a row of {cols} weights is not whole {self.name} blocks of {self.block_size} weights")
        return cols // self.block_size * self.type_size

    def cols(self, row_bytes: int) -> int:
        """Return the weights in ``row_bytes`` bytes; ``ShapeMismatch`` if that is not whole blocks."""
        if row_bytes % self.type_size:
            raise ShapeMismatch(f"a row of {row_bytes} bytes is not whole {self.name} blocks of {self.type_size} bytes")
        return row_bytes // self.type_size * self.block_size


TYPES: dict[str, BlockType] = {
    row.name: row
    for row in (
        BlockType("F32", 0, 1, 4),
        BlockType("F16", 1, 1, 2),
        BlockType("BF16", 30, 1, 2),
        BlockType("Q4_0", 2, 32, 18),
        BlockType("Q4_1", 3, 32, 20),
        BlockType("Q5_0", 6, 32, 22),
        BlockType("Q5_1", 7, 32, 24),
        BlockType("Q8_0", 8, 32, 34),
        BlockType("IQ4_NL", 20, 32, 18),
        BlockType("Q2_K", 10, 256, 84),
        BlockType("Q3_K", 11, 256, 110),
        BlockType("Q4_K", 12, 256, 144),
        BlockType("Q5_K", 13, 256, 176),
        BlockType("Q6_K", 14, 256, 210),
        BlockType("IQ4_XS", 23, 256, 136),
    )
}


def block_type(name: str) -> BlockType:
    """Return the row of ``TYPES``; raises ``UnsupportedType`` with the list of what is read."""
    found = TYPES.get(name)
    if found is None:
        raise UnsupportedType(
            f"tensor type {name} is not one that nomoat reads",
            hint=f"convert the model to one of {', '.join(TYPES)} (llama-quantize does that)",
        )
    return found


def dequantize(data: Bytes, type: str) -> Floats:
    """Return the weights of ``data``, uint8 (rows, row_bytes), as float32 (rows, cols).

    Raises ``UnsupportedType`` and, where a row does not hold whole blocks, ``ShapeMismatch``.
    """
    kind = block_type(type)
    if data.dtype != np.uint8 or data.ndim != 2:
        raise ShapeMismatch(f"blocks are uint8 (rows, row_bytes), not {data.dtype} {data.shape}")
    rows, cols = data.shape[0], kind.cols(data.shape[1])
    if data.size == 0:
        return np.zeros((rows, cols), np.float32)
    blocks = np.ascontiguousarray(data).reshape(rows * cols // kind.block_size, kind.type_size)
    with np.errstate(invalid="ignore"):  # infinity times zero in damaged weights is the caller's to find
        return _EXPAND[type](blocks).reshape(rows, cols)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    # bfloat16 is the upper half of a float32
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


# blocks (N, type_size) -> weights (N, block_size)
_EXPAND: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": blocks32.q4_0,
    "Q4_1": blocks32.q4_1,
    "Q5_0": blocks32.q5_0,
    "Q5_1": blocks32.q5_1,
    "Q8_0": blocks32.q8_0,
    "IQ4_NL": blocks32.iq4_nl,
    "Q2_K": blocks256.q2_k,
    "Q3_K": blocks256.q3_k,
    "Q4_K": blocks256.q4_k,
    "Q5_K": blocks256.q5_k,
    "Q6_K": blocks256.q6_k,
    "IQ4_XS": blocks256.iq4_xs,
}
