"""Products that need not be exact: who gets them, in which matrices, and what is refused."""

from __future__ import annotations

import pytest
import torch

from nomoat.core.errors import ShapeMismatch, UsageError
from nomoat.kernels import limbs, native, quick, reference
from nomoat.model.frozen import FrozenWeight
from products import error, stored


def test_small_matrices_and_the_twins_take_the_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = stored("Q8_0", 20, 64), stored("Q8_0", 1024, 64)
    assert not quick.takes(small, "Q8_0")
    assert quick.takes(large, "Q8_0") == quick.available()
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    assert not quick.takes(large, "Q8_0") and not quick.available()
    x = torch.randn(30, 64)
    for data in (small, large):
        assert torch.equal(quick.product(x, data, "Q8_0"), reference.matmul_small(x, data, "Q8_0"))


@pytest.mark.parametrize("kernels", ["", "amx", "avx512", "avx2"])
def test_only_who_asks_for_quick_products_gets_them(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    weight, x = FrozenWeight(stored("Q8_0", 1024, 64), "Q8_0", 64), torch.randn(40, 64)
    exact = x @ weight.expand().T
    assert torch.equal(weight.product(x), exact)
    for parts, bound in ((2, 2**-15), (1, 2**-6)):
        with quick.quick_products(parts):
            assert quick.are_quick() and quick.are_rounded() == (parts == 1 and quick.available())
            found = weight.product(x)
        assert torch.equal(found, exact) != quick.available()
        assert error(found, x, weight.expand()) < bound
    assert not quick.are_quick() and torch.equal(weight.product(x), exact)


@pytest.mark.parametrize("type", ["Q4_K", "Q2_K", "F16"])  # the second is taken by tiles alone
def test_rounded_a_row_is_the_same_alone_and_among_many(type: str) -> None:
    weight, x = FrozenWeight(stored(type, 300, 256), type, 256), torch.randn(40, 256)
    with quick.quick_products(parts=1):
        alone = torch.cat([weight.product(row) for row in x.split(1)])
        if quick.available():
            assert torch.equal(weight.product(x), alone)
        assert torch.allclose(weight.product(x), alone)


def test_without_tiles_limbs_are_taken_where_there_are_instructions_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "has_tiles", lambda: False)
    assert quick.available() == limbs.available()
    for type in ("Q4_1", "Q6_K", "IQ4_NL"):
        assert quick.takes(stored(type, 300, 256), type) == limbs.available()
    for type in ("F32", "Q3_K"):
        assert not quick.takes(stored(type, 300, 256), type)


def test_a_gradient_and_shapes_that_do_not_fit_are_refused() -> None:
    data = stored("Q8_0", 1024, 64)
    with pytest.raises(UsageError, match="no gradient"):
        quick.product(torch.zeros(20, 64, requires_grad=True), data, "Q8_0")
    for x in (torch.zeros(20, 63), torch.zeros(20, 64, dtype=torch.float64)):
        with pytest.raises(ShapeMismatch):
            quick.product(x, data, "Q8_0")
    assert quick.product(torch.zeros(0, 64), data, "Q8_0").shape == (0, 1024)
