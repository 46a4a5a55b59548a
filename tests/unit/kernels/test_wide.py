"""Products of stored blocks with many rows on tiles of bfloat16: close to float32, and each row by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch, UsageError
from nomoat.formats.blocks import TYPES
from nomoat.kernels import blocks, native, reference
from nomoat.model.frozen import FrozenWeight

WIDE = pytest.mark.skipif(not native.has_wide(), reason="this machine has no tiles of bfloat16")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def stored(type: str, rows: int, cols: int) -> Tensor:
    """Random blocks whose weights are ordinary numbers."""
    kind, generator = TYPES[type], torch.Generator().manual_seed(rows)
    if type in ("F32", "F16", "BF16"):
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[type]
        return torch.randn(rows, cols, generator=generator).to(dtype).view(torch.uint8)
    return torch.randint(0, 60, (rows, cols // kind.block_size * kind.type_size), generator=generator).byte()


def error(got: Tensor, x: Tensor, weights: Tensor) -> float:
    """The largest error, as a share of the sum of the sizes of what is added."""
    x, weights = x.double(), weights.double()
    return float(((got - x @ weights.T).abs() / (x.abs() @ weights.abs().T)).max())


@WIDE
@pytest.mark.parametrize("type", TYPES)
def test_a_product_lies_within_2_to_the_minus_15_of_the_sizes(type: str) -> None:
    data = stored(type, 70, 768)
    weights = reference.expand(data, type)
    for m in (1, 17, 32, 65):
        x = torch.randn(m, 768, generator=torch.Generator().manual_seed(m))
        got = native.matmul_wide(x, data, type)
        assert got.shape == (m, 70) and error(got, x, weights) < 2**-15


@WIDE
@pytest.mark.parametrize(("rows", "cols", "m"), [(1, 1, 1), (33, 31, 40), (15, 289, 33), (600, 33, 31)])
def test_sizes_need_not_be_whole_tiles(rows: int, cols: int, m: int) -> None:
    data, x = stored("F32", rows, cols), torch.randn(m, cols)
    assert error(native.matmul_wide(x, data, "F32"), x, data.view(torch.float32)) < 2**-15


@WIDE
def test_numbers_of_sixteen_bits_are_multiplied_exactly() -> None:
    x = torch.randint(-255, 256, (40, 64)).float()
    weights = torch.randint(-255, 256, (300, 64)).float()
    assert torch.equal(native.matmul_wide(x, weights.view(torch.uint8), "F32"), x @ weights.T)


@WIDE
def test_a_row_is_the_same_alone_among_others_and_on_any_threads(threads: None) -> None:
    data, x = stored("Q4_K", 403, 1280), torch.randn(50, 1280)
    torch.set_num_threads(1)
    alone = torch.cat([native.matmul_wide(row, data, "Q4_K") for row in x.split(1)])
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        assert torch.equal(native.matmul_wide(x, data, "Q4_K"), alone)


def test_small_matrices_and_the_twins_take_the_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = stored("Q8_0", 20, 64), stored("Q8_0", 1024, 64)
    assert not blocks.has_wide(small, "Q8_0")
    assert blocks.has_wide(large, "Q8_0") == native.has_wide()
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    assert not blocks.has_wide(large, "Q8_0")
    x = torch.randn(30, 64)
    for data in (small, large):
        assert torch.equal(blocks.matmul_wide(x, data, "Q8_0"), reference.matmul_small(x, data, "Q8_0"))


def test_only_who_asks_for_quick_products_gets_them() -> None:
    weight, x = FrozenWeight(stored("Q8_0", 1024, 64), "Q8_0", 64), torch.randn(40, 64)
    exact = x @ weight.expand().T
    assert torch.equal(weight.product(x), exact)
    with blocks.quick_products():
        assert torch.equal(weight.product(x), exact) != native.has_wide()
    assert torch.equal(weight.product(x), exact)


def test_a_gradient_and_shapes_that_do_not_fit_are_refused() -> None:
    data = stored("Q8_0", 1024, 64)
    with pytest.raises(UsageError, match="no gradient"):
        blocks.matmul_wide(torch.zeros(20, 64, requires_grad=True), data, "Q8_0")
    for x in (torch.zeros(20, 63), torch.zeros(20, 64, dtype=torch.float64)):
        with pytest.raises(ShapeMismatch):
            blocks.matmul_wide(x, data, "Q8_0")
    assert blocks.matmul_wide(torch.zeros(0, 64), data, "Q8_0").shape == (0, 1024)
