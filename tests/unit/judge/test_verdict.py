"""The words: right when there is something to see, silent when there is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from nomoat.judge.statistics import RESAMPLES, sign_test
from nomoat.judge.verdict import NATS, Comparison, compare_means, compare_shares


def outcomes(fixed: int, broken: int, right: int, wrong: int, resamples: int = RESAMPLES) -> Comparison:
    before = np.repeat([False, True, True, False], [fixed, broken, right, wrong])
    after = np.repeat([True, False, True, False], [fixed, broken, right, wrong])
    return compare_shares("right answers", before, after, resamples=resamples)


def drawn(
    rng: np.random.Generator, rows: int, fixed: float, broken: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    dice, same = rng.random(rows), rng.random(rows) < 0.5
    is_fixed, is_broken = dice < fixed, (dice >= fixed) & (dice < fixed + broken)
    return np.where(is_fixed, False, is_broken | same), np.where(is_broken, False, is_fixed | same)


def test_many_fixed_and_none_broken_is_better_and_the_reverse_is_worse() -> None:
    assert outcomes(26, 0, 0, 74).verdict == "better"
    assert outcomes(0, 26, 0, 74).verdict == "worse"


def test_the_estimates_are_the_shares_and_their_difference() -> None:
    compared = outcomes(fixed=20, broken=5, right=15, wrong=60)
    assert (compared.before.value, compared.after.value) == (0.2, 0.35)
    assert compared.difference.value == pytest.approx(0.15)
    assert compared.difference.low < 0.15 < compared.difference.high


def test_four_fixed_of_a_hundred_is_not_enough_though_the_bootstrap_alone_would_say_so() -> None:
    compared = outcomes(4, 0, 0, 96)
    assert compared.verdict == "cannot tell"
    assert compared.difference.low <= 0
    assert "p\u00a0=\u00a00.12" in compared.why


def test_no_changed_answer_leaves_room_on_both_sides() -> None:
    compared = outcomes(0, 0, 5, 5)
    assert compared.verdict == "cannot tell"
    assert compared.difference.low < -0.15
    assert compared.difference.high > 0.15


def test_five_rows_can_never_decide() -> None:
    compared = outcomes(5, 0, 0, 0)
    assert compared.verdict == "cannot tell"
    assert "too few rows to decide at 95 %: 5" in compared.why


@pytest.mark.parametrize("changed", range(25))
def test_with_few_changes_the_interval_excludes_zero_exactly_when_the_exact_test_does(changed: int) -> None:
    for broken in range(changed + 1):
        compared = outcomes(changed - broken, broken, 40, 40, resamples=2000)
        excludes = not compared.difference.low <= 0 <= compared.difference.high
        assert excludes == (sign_test(changed - broken, broken) < 0.05)


@pytest.mark.parametrize(("fixed", "broken"), [(0.05, 0.05), (0.26, 0.0)])
@pytest.mark.parametrize("rows", [20, 100])
def test_intervals_of_shares_cover_the_truth_as_often_as_they_say(rows: int, fixed: float, broken: float) -> None:
    rng, trials, covered = np.random.default_rng(rows), 150, 0
    for trial in range(trials):
        difference = compare_shares("x", *drawn(rng, rows, fixed, broken), seed=trial, resamples=2000).difference
        covered += difference.low <= fixed - broken <= difference.high
    assert covered / trials >= 0.87  # 0.92 at the worst of these by longer runs, less three standard errors


def test_when_nothing_changed_in_truth_a_verdict_is_given_at_most_one_time_in_twenty() -> None:
    rng, trials = np.random.default_rng(9), 200
    said = [compare_shares("x", *drawn(rng, 60, 0.1, 0.1), seed=t, resamples=2000).verdict for t in range(trials)]
    assert sum(word != "cannot tell" for word in said) / trials <= 0.07


def test_a_lower_loss_is_better_and_a_higher_one_worse() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(2.0, 0.5, size=50)
    after = before - 0.3 + rng.normal(0, 0.1, size=50)
    down = compare_means("held-out loss", "nats per token", before, after, higher_is_better=False)
    up = compare_means("held-out loss", "nats per token", after, before, higher_is_better=False)
    assert (down.verdict, up.verdict) == ("better", "worse")
    assert down.difference.value == pytest.approx(-up.difference.value)


def loss_of(rows: int, worse: int) -> Comparison:
    before = 2 + np.arange(rows) / 100
    after = before - 1
    after[:worse] += 1.1
    return compare_means("loss", NATS, before, after, higher_is_better=False)


def test_a_mean_of_few_rows_is_judged_only_if_the_exact_test_agrees() -> None:
    assert loss_of(9, worse=0).verdict == "better"
    assert loss_of(9, worse=2).difference.high < 0
    assert loss_of(9, worse=2).verdict == "cannot tell"
    assert loss_of(20, worse=6).verdict == "better"


def test_a_mean_of_five_rows_is_not_judged() -> None:
    compared = loss_of(5, worse=0)
    assert compared.verdict == "cannot tell"
    assert "too few rows to decide at 95 %: 5" in compared.why


def test_a_comparison_can_be_written_as_json() -> None:
    values = json.loads(json.dumps(outcomes(9, 1, 5, 5).as_dict()))
    assert values["difference"]["value"] == pytest.approx(0.4)
    assert values["verdict"] == "better"
