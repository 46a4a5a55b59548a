"""Weights to blocks and back: exact where blocks hold the weights, near where not, nearer for what counts."""

from __future__ import annotations

import numpy as np
import pytest

from nomoat.core.errors import NumericError, ShapeMismatch, UnsupportedType
from nomoat.formats.blocks import TYPES, dequantize
from nomoat.formats.quantize import WRITTEN, quantize
from nomoat.formats.weights import Floats

# Mean square error over the weights' own, for normal weights in rows of 512.
WORST = {
    "F32": 0.0,
    "F16": 1e-6,
    "BF16": 1e-5,
    "Q4_0": 1e-2,
    "Q4_1": 8e-3,
    "Q5_0": 2.4e-3,
    "Q5_1": 2e-3,
    "Q8_0": 4e-5,
    "Q4_K": 5.1e-3,
    "Q5_K": 1.3e-3,
    "Q6_K": 4.5e-4,
}


def normal(rows: int = 32, cols: int = 512, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)


def error(weights: Floats, type: str, importance: Floats | None = None, counts: Floats | None = None) -> float:
    back = dequantize(quantize(weights, type, importance), type)
    counts = np.ones(weights.shape[1], np.float32) if counts is None else counts
    return float((counts * (back - weights) ** 2).sum() / (counts * weights**2).sum())


def test_every_type_that_is_written_has_a_bound() -> None:
    assert set(WRITTEN) == set(WORST)


@pytest.mark.parametrize("type", WRITTEN)
def test_normal_weights_come_back_within_the_bound_of_the_type(type: str) -> None:
    assert error(normal(), type) <= WORST[type]


@pytest.mark.parametrize("type", WRITTEN)
def test_columns_that_count_more_come_back_nearer(type: str) -> None:
    importance = np.exp(np.random.default_rng(1).normal(size=512) * 2).astype(np.float32)
    weights = normal()
    assert error(weights, type, importance, counts=importance) <= error(weights, type, counts=importance)
    if type not in ("F32", "F16", "BF16", "Q8_0"):
        assert error(weights, type, importance, counts=importance) < 0.9 * error(weights, type, counts=importance)


@pytest.mark.parametrize("type", WRITTEN)
def test_zeros_and_constants_and_single_spikes_stay_what_they_are(type: str) -> None:
    assert not dequantize(quantize(np.zeros((2, 256), np.float32), type), type).any()
    spike = np.zeros((1, 256), np.float32)
    spike[0, 77] = -2.0
    back = dequantize(quantize(spike, type), type)
    np.testing.assert_allclose(back, spike, atol=2e-3)
    constant = np.full((1, 256), 0.75, np.float32)
    np.testing.assert_allclose(dequantize(quantize(constant, type), type), constant, rtol=2e-3)


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32"])
def test_quantizing_what_was_read_from_blocks_gives_the_same_weights(type: str) -> None:
    once = dequantize(quantize(normal(), type), type)
    np.testing.assert_allclose(dequantize(quantize(once, type), type), once, atol=4e-3 * np.abs(once).max())


@pytest.mark.parametrize("type", WRITTEN)
def test_a_row_does_not_depend_on_its_neighbours(type: str) -> None:
    weights = normal(rows=300)
    whole = quantize(weights, type)
    assert np.array_equal(whole[17:18], quantize(weights[17:18], type))
    assert whole.shape == (300, TYPES[type].row_bytes(512))


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(UnsupportedType, match="IQ4_XS is read, not written"):
        quantize(normal(), "IQ4_XS")
    with pytest.raises(ShapeMismatch, match="whole Q4_K blocks"):
        quantize(normal(cols=288), "Q4_K")
    with pytest.raises(ShapeMismatch, match="importance"):
        quantize(normal(), "Q4_K", np.ones(3, np.float32))
    bad = normal()
    bad[3, 3] = np.nan
    with pytest.raises(NumericError, match="not a finite number"):
        quantize(bad, "Q8_0")
    bad[3, 3] = 1e6
    with pytest.raises(NumericError, match="too large for Q4_K"):
        quantize(bad, "Q4_K")
