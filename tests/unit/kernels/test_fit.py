"""The compiled searches behind quantizing: the bits of the twin in numpy, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nomoat.core.errors import ShapeMismatch
from nomoat.formats import fit
from nomoat.formats.quantize import WRITTEN, quantize
from nomoat.formats.weights import Floats
from nomoat.kernels import fit_native, native

pytestmark = pytest.mark.skipif(not native.built(), reason="the kernels are not built")
SEARCHED = [type for type in WRITTEN if type not in ("F32", "F16", "BF16", "Q8_0")]


def runs(count: int, length: int) -> tuple[Floats, Floats]:
    """Weights with zeros, spikes, constants, tiny and large runs, and how much each counts."""
    rng = np.random.default_rng(count)
    x = (rng.standard_t(3, (count, length)) * np.exp(rng.normal(-3, 4, (count, 1)))).astype(np.float32)
    x[0], x[1, 1:], x[2], x[3] = 0, 0, x[2, 0], np.abs(x[3])
    x[4, ::2] = -x[4, 1::2]
    weights = np.exp(rng.normal(0, 2, (count, length))).astype(np.float32)
    weights[5], weights[6, 3:] = 0, 0
    return x, weights


@pytest.mark.parametrize("instruction_set", native.instruction_sets())
@pytest.mark.parametrize("count", [7, 16, 131])
def test_the_searches_find_the_bits_of_their_twins(count: int, instruction_set: int) -> None:
    for length, levels in ((16, 32), (32, 8), (32, 16)):
        x, weights = runs(count, length)
        found = fit_native.best_scale(x, weights, levels, fit.about(levels), instruction_set=instruction_set)
        expected = fit.best_scale(x, weights, levels, fit.about(levels))
        assert np.array_equal(found, expected) and len(np.unique(expected)) > 3
    for top, first, steps in ((15, -1.0, 20), (31, -0.5, 15)):
        x, weights = runs(count, 32)
        factors = fit.from_level(top, first, steps)
        found = fit_native.best_line(x, weights, top, factors, instruction_set=instruction_set)
        for mine, twin in zip(found, fit.best_line(x, weights, top, factors), strict=True):
            assert np.array_equal(mine, twin)


@pytest.mark.parametrize("type", SEARCHED)
def test_blocks_have_the_same_bytes_whoever_searches(type: str) -> None:
    x, importance = runs(24, 512)[0] * np.float32(0.01), runs(8, 512)[1][0]
    for counts in (None, importance):
        assert np.array_equal(quantize(x, type, counts, fit_native.search()), quantize(x, type, counts))


def test_the_number_of_threads_changes_nothing() -> None:
    x, weights = runs(1000, 32)
    found = fit_native.best_line(x, weights, 15, fit.from_level(15, -1.0, 20))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = fit_native.best_line(x, weights, 15, fit.from_level(15, -1.0, 20))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_runs_of_another_length_and_weights_of_another_shape_are_refused() -> None:
    x, weights = runs(8, 64)
    with pytest.raises(ShapeMismatch, match="runs of 64"):
        fit_native.best_scale(x, weights, 8, fit.about(8))
    with pytest.raises(ShapeMismatch, match="weights of shape"):
        fit_native.best_line(x, weights[:4], 15, fit.about(8))


def test_without_compiled_kernels_numpy_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    assert fit_native.search() is fit.NUMPY
