from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import int8, int8_native, int8_reference

SETS = int8_native.instruction_sets()
SHAPES = [(1, 1, 1), (1, 64, 64), (7, 65, 63), (13, 192, 130), (5, 577, 1), (31, 1000, 200), (400, 130, 70)]


@pytest.fixture(params=SETS, ids=SETS.get)
def instruction_set(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def rows_with_outliers(m: int, columns: int, seed: int = 0) -> Tensor:
    x = torch.randn(m, columns, generator=torch.Generator().manual_seed(seed))
    x[:, columns // 2] *= 100
    return x


def recipe(columns: int, n_kept: int = 0, *, group: int = int8.GROUP, rotated: bool = True) -> int8.Recipe:
    kept = torch.linspace(0, columns - 1, n_kept).long().unique()
    return int8.Recipe(columns, kept, group, rotated)


def packed(outputs: int, chosen: int8.Recipe) -> tuple[Tensor, int8.Packed]:
    matrix = torch.randn(outputs, chosen.columns, generator=torch.Generator().manual_seed(1))
    return matrix, int8.pack(matrix, chosen)


@pytest.mark.parametrize("rotated", [True, False])
@pytest.mark.parametrize(("m", "columns", "n_kept"), [(1, 1, 1), (3, 64, 0), (5, 577, 4), (4, 1000, 9), (0, 70, 2)])
@pytest.mark.parametrize("group", [64, 128, 512])
def test_rows_become_the_bytes_of_the_twin(
    m: int, columns: int, n_kept: int, group: int, rotated: bool, instruction_set: int
) -> None:
    x, kept = rows_with_outliers(m, columns), recipe(columns, n_kept).kept
    got = int8_native.quantize(x, group, rotated, kept, instruction_set=instruction_set)
    for mine, twin in zip(got, int8_reference.quantize(x, group, rotated, kept), strict=True):
        assert torch.equal(mine, twin)


def test_integers_of_a_product_are_exactly_those_of_the_twin(instruction_set: int) -> None:
    for extreme in (False, True):
        m, depth, outputs = 9, 320, 67
        generator = torch.Generator().manual_seed(2)
        bytes = torch.randint(1, 256, (m, depth), generator=generator, dtype=torch.uint8)
        weights = torch.randint(-127, 128, (2, depth // 4, 64, 4), generator=generator, dtype=torch.int8)
        if extreme:  # where instructions that saturate would
            bytes, weights = torch.full_like(bytes, 255), torch.full_like(weights, 127)
            bytes[::2] = 1
        sums = weights.view(2, depth // 4, 64, 4).sum((1, 3), dtype=torch.int32)
        arguments = (bytes, torch.ones(m, 1), torch.empty(m, 0), weights, torch.ones(2, 1, 64), sums[:, None] * -128)
        got = int8_native.product(
            *arguments, torch.empty(2, 0, 64), group=320, outputs=outputs, bias=None, instruction_set=instruction_set
        )
        matrix = weights.transpose(1, 2).reshape(128, depth)[:outputs]
        assert torch.equal(got.long(), (bytes.long() - 128) @ matrix.long().T)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("m", "columns", "outputs"), SHAPES)
def test_products_agree_with_the_twin_to_1e_5(
    m: int, columns: int, outputs: int, bias: bool, instruction_set: int
) -> None:
    chosen = recipe(columns, min(columns, 5))
    _, weight = packed(outputs, chosen)
    rows = int8.quantize(rows_with_outliers(m, columns), chosen)
    arguments = (rows.bytes, rows.scales, rows.kept_values)
    arguments += (weight.weights, weight.scales, weight.starts, weight.kept_weights)
    extra = torch.randn(outputs) if bias else None
    got = int8_native.product(
        *arguments, group=chosen.group, outputs=outputs, bias=extra, instruction_set=instruction_set
    )
    twin = int8_reference.product(*arguments, group=chosen.group, outputs=outputs, bias=extra)
    assert got.shape == (m, outputs)
    assert (got - twin).abs().max() <= 1e-5 * twin.abs().max().clamp_min(1)


@pytest.mark.parametrize("kernels", ["", "reference"])
@pytest.mark.parametrize(("m", "columns", "outputs"), SHAPES)
def test_products_both_ways_are_near_those_in_float32(
    m: int, columns: int, outputs: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    matrix, _ = packed(outputs, recipe(columns))
    weight = int8.PackedInt8(lambda rows: matrix[rows], (outputs, columns), torch.tensor([columns // 2]))
    x, g = rows_with_outliers(m, columns), torch.randn(m, outputs)
    for got, exact in ((weight.product(x), x @ matrix.T), (weight.product_transposed(g), g @ matrix)):
        assert got.shape == exact.shape
        assert (got - exact).norm() <= 0.02 * exact.norm()


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_a_product_may_be_added_to_what_is_there(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    chosen = recipe(130, 3)
    _, weight = packed(70, chosen)
    rows, there = int8.quantize(torch.randn(33, 130), chosen), torch.randn(33, 70)
    alone, before = int8.product(rows, weight), there.clone()
    assert int8.product(rows, weight, add_to=there) is there
    assert torch.equal(there, before + alone)


def test_an_empty_batch_gives_an_empty_product(instruction_set: int) -> None:
    chosen = recipe(70, 2)
    _, weight = packed(66, chosen)
    assert int8.product(int8.quantize(torch.empty(0, 70), chosen), weight).shape == (0, 66)


def test_pointers_need_no_alignment_and_rows_may_lie_apart(instruction_set: int) -> None:
    chosen = recipe(130, 3)
    wide = torch.randn(9, 200)
    part, place = wide[1:, 3:133], chosen.kept
    got = int8_native.quantize(part, chosen.group, True, place, instruction_set=instruction_set)
    assert torch.equal(got[0], int8_reference.quantize(part, chosen.group, True, place)[0])
    _, weight = packed(65, chosen)
    shifted = [torch.empty(t.numel() + 1, dtype=t.dtype)[1:].view(t.shape).copy_(t) for t in (*got, weight.weights)]
    rest = (weight.scales, weight.starts, weight.kept_weights)
    calls = [
        int8_native.product(*inputs, *rest, group=chosen.group, outputs=65, bias=None, instruction_set=instruction_set)
        for inputs in ((*got, weight.weights), shifted)
    ]
    assert torch.equal(*calls)


def test_a_product_does_not_depend_on_threads_or_on_its_batch(instruction_set: int, threads: None) -> None:
    chosen = recipe(600, 4)
    _, weight = packed(330, chosen)
    x = torch.randn(401, 600)
    torch.set_num_threads(1)
    alone = torch.cat([int8.product(int8.quantize(part, chosen), weight) for part in x.split(57)])
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        assert torch.equal(int8.product(int8.quantize(x, chosen), weight), alone)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kernels", ["", "reference"])
def test_what_is_not_finite_is_not_lost(bad: float, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    chosen = recipe(130)
    _, weight = packed(5, chosen)
    x = torch.randn(3, 130)
    x[1, 129] = bad
    y = int8.product(int8.quantize(x, chosen), weight)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_rows_of_zeros_and_of_tiny_numbers_are_zero(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    chosen = recipe(64)
    _, weight = packed(3, chosen)
    for size in (0.0, 1e-38):
        assert torch.equal(int8.product(int8.quantize(torch.full((2, 64), size), chosen), weight), torch.zeros(2, 3))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeMismatch):
        int8.quantize(torch.zeros(2, 5), recipe(6))
    if not SETS:
        return
    with pytest.raises(ShapeMismatch):
        int8_native.quantize(torch.zeros(2, 5), 100, True, torch.empty(0, dtype=torch.int64))
    with pytest.raises(ShapeMismatch):
        int8_native.quantize(torch.zeros(2, 5), 128, True, torch.tensor([5]))
    with pytest.raises(ShapeMismatch):
        int8_native.quantize(torch.zeros(2, 5), 128, True, torch.tensor([2, 1]))
