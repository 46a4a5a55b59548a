"""Products of rows in limbs of eight bits: what their twin says, each row by itself, and nothing lost."""

from __future__ import annotations

import pytest
import torch

from nomoat.core.errors import ShapeMismatch
from nomoat.formats.blocks import TYPES
from nomoat.kernels import limbs, native, reference
from products import error, stored

pytestmark = pytest.mark.skipif(not limbs.available(), reason="this machine has no AVX-512-VNNI")

TAKEN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q4_K", "Q5_K", "Q6_K")


@pytest.fixture(autouse=True)
def these_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "avx512")  # a machine with tiles has others for few rows


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("type", TAKEN)
@pytest.mark.parametrize(("rows", "cols"), [(16, 256), (70, 768), (200, 1280)])
def test_a_product_is_that_of_what_the_limbs_stand_for(type: str, rows: int, cols: int, parts: int) -> None:
    data = stored(type, rows, cols)
    weights = reference.expand(data, type)
    for m in (1, 3, 17, 65):
        x = torch.randn(m, cols, generator=torch.Generator().manual_seed(m))
        got = limbs.product(x, data, type, parts)
        assert got.shape == (m, rows) and error(got, limbs.as_limbs(x, parts), weights) < 1e-6


@pytest.mark.parametrize("type", TAKEN)
def test_two_limbs_are_near_and_one_is_not(type: str) -> None:
    data, x = stored(type, 70, 768), torch.randn(20, 768)
    weights = reference.expand(data, type)
    assert error(limbs.product(x, data, type, 2), x, weights) < 2**-15
    assert 2**-13 < error(limbs.product(x, data, type, 1), x, weights) < 2**-6


@pytest.mark.parametrize("type", TAKEN)
def test_a_few_rows_are_as_exact_as_in_float32(type: str) -> None:
    for rows, cols in ((16, 256), (70, 768), (403, 1536)):
        data, x = stored(type, rows, cols), torch.randn(16, cols)
        weights = reference.expand(data, type)
        alone = torch.cat([native.matmul_small(row, data, type) for row in x.split(1)])
        for m in (1, 2, 3, 5, 8, 9, 13, 16):
            got = native.matmul_small(x[:m], data, type)
            assert torch.equal(got, alone[:m]) and error(got, x[:m], weights) < 2**-21


@pytest.mark.parametrize("parts", [1, 2])
def test_a_row_is_the_same_alone_among_others_and_on_any_threads(parts: int, threads: None) -> None:
    data, x = stored("Q4_K", 403, 1280), torch.randn(400, 1280)
    torch.set_num_threads(1)
    alone = torch.cat([limbs.product(row, data, "Q4_K", parts) for row in x.split(1)])
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        assert torch.equal(limbs.product(x, data, "Q4_K", parts), alone)
        some = torch.cat([native.matmul_small(row, data, "Q4_K") for row in x[:16].split(n)])
        assert torch.equal(native.matmul_small(x[:16], data, "Q4_K"), some)


def test_the_largest_numbers_of_both_sides_fit() -> None:
    for type in TAKEN:
        kind = TYPES[type]
        data = torch.full((64, kind.type_size), 255, dtype=torch.uint8)  # quants at their ends
        scales = {"Q4_K": [0, 1], "Q5_K": [0, 1], "Q6_K": [208, 209]}.get(type, [0, 1])
        data[:, scales] = torch.tensor([0, 60], dtype=torch.uint8)  # 1.0
        if type in ("Q4_K", "Q5_K", "Q4_1", "Q5_1"):
            data[:, [2, 3]] = torch.tensor([0, 60], dtype=torch.uint8)
        weights = reference.expand(data, type)
        for sign in (1.0, -1.0):
            x = torch.full((3, kind.block_size), sign * 3e8)
            for got in (native.matmul_small(x, data, type), *(limbs.product(x, data, type, n) for n in (1, 2))):
                assert error(got, x, weights) < 2**-16


def test_infinities_and_nan_are_not_lost_and_zeros_stay() -> None:
    data, x = stored("Q4_1", 64, 96), torch.randn(4, 96)
    x[0, 3], x[1, 40], x[2] = float("nan"), float("-inf"), 0.0
    for got in (native.matmul_small(x, data, "Q4_1"), limbs.product(x, data, "Q4_1", 2)):
        assert got[:2].isnan().all() and (got[2] == 0).all() and got[3].isfinite().all()


def test_blocks_and_shapes_that_are_not_taken_are_refused() -> None:
    assert not limbs.takes(stored("Q2_K", 64, 256), "Q2_K") and not limbs.takes(stored("Q8_0", 15, 256), "Q8_0")
    with pytest.raises(ShapeMismatch, match="do not take Q2_K"):
        limbs.product(torch.zeros(3, 256), stored("Q2_K", 64, 256), "Q2_K")
    with pytest.raises(ShapeMismatch, match="3 limbs"):
        limbs.product(torch.zeros(3, 256), stored("Q8_0", 64, 256), "Q8_0", 3)
    for x in (torch.zeros(3, 255), torch.zeros(3, 256).double()):
        with pytest.raises(ShapeMismatch):
            limbs.product(x, stored("Q8_0", 64, 256), "Q8_0")
    assert limbs.product(torch.zeros(0, 256), stored("Q8_0", 64, 256), "Q8_0").shape == (0, 64)
