"""Products of stored blocks with many rows in bfloat16: as close as promised, both ways, and each row by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nomoat.formats.blocks import TYPES
from nomoat.kernels import native, reference
from nomoat.kernels.bfloat16 import RoundedBlocks, sum_of_outer
from nomoat.kernels.native import LowRank
from products import error, stored

TILES = pytest.mark.skipif(not native.has_tiles(), reason="this machine has no tiles of bfloat16")


@TILES
@pytest.mark.parametrize("type", TYPES)
def test_a_product_lies_within_2_to_the_minus_15_of_the_sizes(type: str) -> None:
    data = stored(type, 70, 768)
    weights = reference.expand(data, type)
    for m in (1, 17, 32, 65):
        x = torch.randn(m, 768, generator=torch.Generator().manual_seed(m))
        got = native.matmul_tiles(x, data, type, parts=2)
        assert got.shape == (m, 70) and error(got, x, weights) < 2**-15


@TILES
@pytest.mark.parametrize("type", TYPES)
def test_a_product_of_rounded_numbers_is_that_of_its_twin_both_ways(type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = RoundedBlocks(stored(type, 70, 768), type)
    for m in (1, 17, 65):
        generator = torch.Generator().manual_seed(m)
        x, g, sum = (torch.randn(m, n, generator=generator) for n in (768, 70, 768))
        found = matrix.product(x), matrix.product_transposed(g), matrix.product_transposed(g, add_to=sum.clone())
        monkeypatch.setenv("NOMOAT_KERNELS", "reference")
        expected = matrix.product(x), matrix.product_transposed(g), matrix.product_transposed(g, add_to=sum.clone())
        monkeypatch.delenv("NOMOAT_KERNELS")
        for got, twin in zip(found, expected):
            assert (got - twin).abs().max() <= 1e-5 * twin.abs().max()


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_rounding_both_sides_costs_at_most_2_to_the_minus_7(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    matrix, x, g = RoundedBlocks(stored("Q4_K", 70, 768), "Q4_K"), torch.randn(20, 768), torch.randn(20, 70)
    weights = reference.expand(matrix.data, "Q4_K")
    assert 2**-12 < error(matrix.product(x), x, weights) < 2**-7
    assert 2**-12 < error(matrix.product_transposed(g), g, weights.T) < 2**-7


@TILES
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("rows", "cols"), [(0, 64), (64, 0), (1, 1), (33, 31), (700, 600), (45, 1300)])
def test_any_size_goes_both_ways_onto_what_is_there(rows: int, cols: int, parts: int, transposed: bool) -> None:
    weights = torch.randint(-9, 10, (rows, cols)).float()
    depth, outputs = (rows, cols) if transposed else (cols, rows)
    for m in (0, 1, 33):
        x, onto = torch.randint(-9, 10, (m, depth)).float(), torch.randint(-9, 10, (m, outputs)).float()
        exact = x @ (weights if transposed else weights.T)
        data = weights.view(torch.uint8)
        got = native.matmul_tiles(x, data, "F32", parts=parts, transposed=transposed)
        assert torch.equal(got, exact)
        again = native.matmul_tiles(x, data, "F32", parts=parts, transposed=transposed, add_to=onto.clone())
        assert torch.equal(again, onto + exact)


@TILES
@pytest.mark.parametrize(("rows", "cols", "m"), [(1, 1, 1), (33, 31, 40), (15, 289, 33), (600, 33, 31)])
def test_sizes_need_not_be_whole_tiles(rows: int, cols: int, m: int) -> None:
    data, x = stored("F32", rows, cols), torch.randn(m, cols)
    assert error(native.matmul_tiles(x, data, "F32", parts=2), x, data.view(torch.float32)) < 2**-15


@TILES
def test_numbers_of_sixteen_bits_are_multiplied_exactly() -> None:
    x = torch.randint(-255, 256, (40, 64)).float()
    weights = torch.randint(-255, 256, (300, 64)).float()
    assert torch.equal(native.matmul_tiles(x, weights.view(torch.uint8), "F32", parts=2), x @ weights.T)


@TILES
def test_a_row_is_the_same_alone_among_others_and_on_any_threads(threads: None) -> None:
    data, x = stored("Q4_K", 403, 1280), torch.randn(50, 1280)
    torch.set_num_threads(1)
    alone = torch.cat([native.matmul_tiles(row, data, "Q4_K", parts=2) for row in x.split(1)])
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        assert torch.equal(native.matmul_tiles(x, data, "Q4_K", parts=2), alone)


@pytest.mark.parametrize("rank", [1, 16, 40])
@pytest.mark.parametrize(("rows", "cols", "m"), [(70, 768, 65), (300, 256, 1), (33, 512, 40)])
def test_an_update_comes_with_its_product_both_ways(
    rows: int, cols: int, m: int, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(rank)
    matrix = RoundedBlocks(stored("Q4_K", rows, cols), "Q4_K")
    a, b, x, g, sum = (
        torch.randn(shape, generator=generator)
        for shape in ((rank, cols), (rows, rank), (m, cols), (m, rows), (m, cols))
    )
    update = LowRank(a, b, 0.5)

    def both_ways() -> list[Tensor]:
        back = matrix.product_transposed_updated(g, update, sum.clone())
        return [*matrix.product_updated(x, update), *matrix.product_transposed_updated(g, update), *back]

    found = both_ways()
    weights = reference.expand(matrix.data, "Q4_K") + 0.5 * b @ a
    assert torch.allclose(found[0], x @ weights.T, atol=0.02 * float((x @ weights.T).abs().max()))
    assert torch.allclose(found[2], g @ weights, atol=0.02 * float((g @ weights).abs().max()))
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    for got, twin in zip(found, both_ways()):
        # A number on the edge between two bfloat16 numbers may be rounded either way after sums in another order.
        assert got.shape == twin.shape and (got - twin).abs().max() <= 2e-3 * twin.abs().max()


def test_sums_of_outer_products_are_those_of_rounded_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for n, rank, width in ((1, 1, 1), (65, 16, 70), (1000, 40, 33)):
        left, right = torch.randn(n, rank), torch.randn(n, width)
        monkeypatch.delenv("NOMOAT_KERNELS", raising=False)
        found = sum_of_outer(left, right)
        monkeypatch.setenv("NOMOAT_KERNELS", "reference")
        twin = sum_of_outer(left, right)
        assert found.shape == (rank, width) and (found - twin).abs().max() <= 1e-5 * n**0.5 * twin.abs().max()
