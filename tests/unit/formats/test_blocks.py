from __future__ import annotations

import struct

import numpy as np
import pytest

from nomoat.core.errors import ShapeMismatch, UnsupportedType
from nomoat.formats.blocks import TYPES, block_type, dequantize
from nomoat.formats.weights import Bytes


def one_block(content: bytes) -> Bytes:
    return np.frombuffer(content, dtype=np.uint8).reshape(1, -1)


def test_a_q4_0_block_worked_by_hand() -> None:
    block = struct.pack("<e", 0.5) + bytes([0x80 | j for j in range(16)])
    assert dequantize(one_block(block), "Q4_0").tolist() == [[0.5 * (j - 8) for j in range(16)] + [0.0] * 16]


def test_a_q5_1_block_worked_by_hand() -> None:
    fifth = 1 << 0 | 1 << 31
    block = struct.pack("<eeI", 2.0, -1.0, fifth) + bytes([0x30] * 16)
    expected = [31.0] + [-1.0] * 15 + [5.0] * 15 + [37.0]
    assert dequantize(one_block(block), "Q5_1").tolist() == [expected]


def test_a_q6_k_block_worked_by_hand() -> None:
    scales = [1, -2, *[0] * 14]
    block = bytes([0x05] * 128) + bytes([0x02] * 64) + struct.pack("<16be", *scales, 0.25)
    weights = dequantize(one_block(block), "Q6_K")[0]
    assert weights[:16].tolist() == [0.25 * (37 - 32)] * 16
    assert weights[16:32].tolist() == [0.25 * -2 * (37 - 32)] * 16
    assert not weights[32:].any()


def test_a_q4_k_block_takes_the_high_bits_of_late_scales_from_the_early_ones() -> None:
    packed = bytearray(12)
    packed[0] = 0b10_000001  # scale 0 is 1; its spare bits are the top of scale 4
    packed[8] = 0x03  # the low nibble of scale 4
    block = struct.pack("<ee", 1.0, 0.0) + bytes(packed) + bytes([0x11] * 128)
    weights = dequantize(one_block(block), "Q4_K")[0].reshape(8, 32)
    assert weights[:, 0].tolist() == [1, 0, 0, 0, 0b100011, 0, 0, 0]


def test_bf16_is_the_upper_half_of_a_float32() -> None:
    values = np.array([1.0, -2.5, 3e38, 0.0], dtype=np.float32)
    stored = (values.view(np.uint32) >> 16).astype("<u2").view(np.uint8).reshape(2, 4)
    expected = (values.view(np.uint32) & 0xFFFF0000).view(np.float32).reshape(2, 2)
    assert np.array_equal(dequantize(stored, "BF16"), expected)


@pytest.mark.parametrize("type", TYPES)
def test_rows_may_lie_apart_in_memory(type: str) -> None:
    size = TYPES[type].type_size
    wide = np.random.default_rng(1).integers(0, 60, (5, 4 * size), dtype=np.uint8)
    assert np.array_equal(
        dequantize(wide[::2, size : 3 * size], type), dequantize(wide[::2, size : 3 * size].copy(), type)
    )


@pytest.mark.parametrize("type", TYPES)
def test_no_rows_give_no_rows(type: str) -> None:
    kind = TYPES[type]
    empty = np.zeros((0, 2 * kind.type_size), np.uint8)
    assert dequantize(empty, type).shape == (0, 2 * kind.block_size)


def test_part_of_a_block_an_unknown_type_and_another_dtype_are_refused() -> None:
    with pytest.raises(ShapeMismatch, match="19 bytes is not whole Q4_0 blocks of 18 bytes"):
        dequantize(np.zeros((1, 19), np.uint8), "Q4_0")
    with pytest.raises(ShapeMismatch, match="33 weights is not whole Q8_0 blocks of 32 weights"):
        TYPES["Q8_0"].row_bytes(33)
    with pytest.raises(UnsupportedType, match="tensor type IQ1_S"):
        block_type("IQ1_S")
    with pytest.raises(ShapeMismatch, match="float32"):
        dequantize(np.zeros((1, 18), np.float32), "Q4_0")  # type: ignore[arg-type]


def test_sizes_of_rows_go_both_ways() -> None:
    for kind in TYPES.values():
        assert kind.cols(kind.row_bytes(512)) == 512
