from __future__ import annotations

import numpy as np
import pytest

from nomoat.formats.weights import Array
from nomoat.stack.simplex import descend


def bowl(point: Array) -> float:
    centre, steepness = np.array([0.3, 0.8, -0.2]), np.array([1.0, 4.0, 2.0])
    return float(((point - centre[: len(point)]) ** 2 * steepness[: len(point)]).sum())


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_it_finds_the_bottom_of_a_bowl(dimensions: int) -> None:
    tried = list(descend(bowl, np.ones(dimensions), step=0.35, budget=90))
    assert min(value for _, value in tried) < 1e-3


@pytest.mark.parametrize("budget", [1, 2, 3, 7, 20])
def test_it_stays_within_its_budget_and_reports_every_point_it_tries(budget: int) -> None:
    calls: list[float] = []

    def counted(point: Array) -> float:
        calls.append(bowl(point))
        return calls[-1]

    tried = list(descend(counted, np.ones(3), step=0.35, budget=budget))
    assert [value for _, value in tried] == calls and len(calls) == budget
    assert np.array_equal(tried[0][0], np.ones(3))


def test_it_goes_down_a_ridge_that_is_not_smooth() -> None:
    tried = list(descend(lambda point: float(np.abs(point - 0.4).max()), np.ones(2), step=0.35, budget=80))
    assert min(value for _, value in tried) < 0.05
