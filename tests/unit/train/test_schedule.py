"""Learning rates over a run."""

from __future__ import annotations

import itertools

import pytest

from nomoat.core.errors import UsageError
from nomoat.train.schedule import SCHEDULES, factor, warmup_steps


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_rises_in_a_line_to_one_and_never_goes_below_zero(schedule: str) -> None:
    factors = [factor(schedule, step, 100, 10) for step in range(101)]
    assert factors[:11] == [step / 10 for step in range(11)]
    assert all(0 <= later <= earlier for earlier, later in itertools.pairwise(factors[10:]))


def test_halfway_after_the_warm_up_cosine_and_line_are_at_half() -> None:
    assert factor("cosine", 55, 100, 10) == pytest.approx(0.5) == factor("linear", 55, 100, 10)
    assert factor("constant", 55, 100, 10) == 1.0
    assert factor("cosine", 100, 100, 10) == pytest.approx(0) == factor("linear", 100, 100, 10)


def test_a_part_of_a_warm_up_step_counts_as_one() -> None:
    assert [warmup_steps(100, share) for share in (0.0, 0.03, 0.031)] == [0, 3, 4]


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        factor("step", 0, 10, 0)
    assert "cosine" in caught.value.hint
