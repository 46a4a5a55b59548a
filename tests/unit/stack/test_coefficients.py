"""Weights finer than one for each adapter: the same algebra, and gradients that are true."""

from __future__ import annotations

import pytest
import torch

from adapters import dense, random_adapter, with_random_biases
from nomoat.engine.score import loss
from nomoat.model.adapters import Adapter, adaptable
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.stack.coefficients import found_coefficients, learnable, weighted
from nomoat.stack.grid import Grid, alike, from_shares
from nomoat.stack.grid import grid_of as grid_over
from nomoat.stack.options import GRAINS
from nomoat.stack.skill_loss import Gain, coefficient_task
from nomoat.train.state import Cursor
from tiny import tiny_base

ROWS = tuple(Encoded([1, *(3 + (7 * n + 5 * t) % 200 for t in range(12))], [False] * 4 + [True] * 9) for n in range(8))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def adapters(base: Base) -> list[Adapter]:
    """A plain one, one with biases and other targets, one with rsLoRA's scale that starts as PiSSA does, a DoRA."""
    return [
        random_adapter(base, "plain", 1, rank=3, alpha=3.0),
        with_random_biases(
            random_adapter(base, "biased", 2, rank=2, alpha=2.0, target_modules=("q_proj", "up_proj")), 3
        ),
        random_adapter(base, "rooted", 4, rank=2, alpha=2.0, use_rslora=True, init="pissa"),
        random_adapter(base, "rowwise", 5, rank=2, alpha=4.0, use_dora=True, target_modules=("v_proj", "down_proj")),
    ]


def grid_of(base: Base, adapters: list[Adapter], grain: str) -> Grid:
    return grid_over(adapters, grain, adaptable(base.decoder))


@pytest.mark.parametrize("grain", GRAINS)
def test_ones_everywhere_are_the_plain_sum(grain: str, base: Base, adapters: list[Adapter]) -> None:
    grid, plainly = grid_of(base, adapters, grain), alike(adapters, [1.0] * 4)
    plain = loss(base, ROWS, [(adapter, 1.0) for adapter in adapters])[0]
    assert loss(base, ROWS, weighted(grid, from_shares(grid, plainly)))[0] == pytest.approx(plain, abs=1e-5)
    assert loss(base, ROWS, learnable(grid, from_shares(grid, plainly)))[0] == pytest.approx(plain, abs=1e-5)
    for adapter, (alone, weight) in zip(adapters, weighted(grid, from_shares(grid, plainly))):
        assert weight == 1.0 and alone.name == adapter.name
        for module, matrix in dense(adapter, base).items():
            torch.testing.assert_close(dense(alone, base)[module], matrix, atol=5e-6, rtol=1e-5)


def test_a_finer_grain_has_more_coefficients_and_can_be_what_a_coarser_one_is(
    base: Base, adapters: list[Adapter]
) -> None:
    grids = {grain: grid_of(base, adapters, grain) for grain in GRAINS}
    modules = [len(adapter.deltas) for adapter in adapters]
    # Ranks 3, 2 and twice 2 (what PiSSA began at is subtracted); every bias of the second has a weight of its own.
    # The last is a DoRA: the multiples of the base's rows at each module have a weight of their own too.
    directions = 3 * modules[0] + 2 * modules[1] + modules[1] + 4 * modules[2] + 2 * modules[3] + modules[3]
    assert [grids[grain].count for grain in GRAINS[:4]] == [4, 8, sum(modules), directions]
    rest = modules[0] - modules[1] - modules[3]  # modules on which two of them stand, and not three
    assert grids["core"].count == (modules[1] + modules[3]) * 9**2 + rest * 7**2 + modules[1] + modules[3]
    shares = alike(adapters, [0.5, -1.0, 2.0, 0.7])
    expected = loss(base, ROWS, list(zip(adapters, (0.5, -1.0, 2.0, 0.7))))[0]
    for grain, grid in grids.items():
        values = from_shares(grid, shares)
        assert loss(base, ROWS, weighted(grid, values))[0] == pytest.approx(expected, abs=1e-5), grain
        found = found_coefficients(grid, values)
        assert found.weights == pytest.approx({"plain": 0.5, "biased": -1.0, "rooted": 2.0, "rowwise": 0.7}, abs=1e-4)
        assert found.shares["biased"] == pytest.approx(shares[1], abs=1e-4)


@pytest.mark.parametrize("grain", GRAINS)
def test_the_gradient_is_that_of_finite_differences(grain: str, base: Base, adapters: list[Adapter]) -> None:
    grid = grid_of(base, adapters, grain)
    generator = torch.Generator().manual_seed(0)
    values = torch.nn.Parameter(0.3 + 0.4 * torch.rand(grid.count, generator=generator))
    gains = [Gain(ROWS[:4], (20.0,) * 4, 0.5), Gain(ROWS[4:], (18.0,) * 4, 0.8)]
    task = coefficient_task(base, grid, values, gains, pack_tokens=2048, seed=0)
    piece = task.batches.take(Cursor())[0].pieces[0]
    task.loss(piece).backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    slope = values.grad.clone()
    for direction in torch.randn(4, grid.count, generator=generator):
        ends = []
        with torch.no_grad():
            for side in (4e-3, -4e-3):
                values += side * direction / direction.norm()
                ends.append(float(task.loss(piece)))
                values -= side * direction / direction.norm()
        expected = float(slope @ direction / direction.norm())
        assert (ends[0] - ends[1]) / 8e-3 == pytest.approx(expected, rel=0.03, abs=1e-2)
