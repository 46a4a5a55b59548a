"""Intervals and tests against closed forms, published tables and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nomoat.core.errors import UsageError
from nomoat.judge.statistics import (
    Method,
    bootstrap,
    sign_test,
    student_quantile,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "rows", "low", "high"),
    [(10, 20, 0.2993, 0.7007), (1, 10, 0.0179, 0.4042), (81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775)],
)
def test_wilson_agrees_with_published_values(successes: int, rows: int, low: float, high: float) -> None:
    interval = wilson(successes, rows)
    assert interval.value == successes / rows
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-5)


def test_wilson_touches_the_ends_exactly_and_knows_nothing_without_rows() -> None:
    assert wilson(0, 7).low == 0.0
    assert wilson(7, 7).high == 1.0
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_wilson_mirrors_when_right_and_wrong_are_swapped() -> None:
    left, right = wilson(3, 11), wilson(8, 11)
    assert (left.low, left.high) == pytest.approx((1 - right.high, 1 - right.low))


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(0, 0, 1.0), (4, 0, 0.125), (6, 0, 0.03125), (10, 2, 0.03857421875), (3, 3, 1.0)]
)
def test_the_sign_test_counts_the_tails_of_a_fair_coin(wins: int, losses: int, p: float) -> None:
    assert sign_test(wins, losses) == sign_test(losses, wins) == p


def test_the_sign_test_of_thousands_agrees_with_the_normal_limit() -> None:
    z = (abs(2600 - 2400) - 1) / math.sqrt(5000)
    assert sign_test(2600, 2400) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=5e-3)


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (9, 2.2622), (30, 2.0423), (199, 1.9720), (201, 1.9718)],
)
def test_student_quantiles_agree_with_the_table(freedom: int, t: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(t, abs=1e-4)
    assert student_quantile(0.025, freedom) == pytest.approx(-t, abs=1e-4)


def test_the_bootstrap_of_a_mean_approaches_the_closed_form() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, size=400)
    interval = bootstrap(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.006)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.006)


def test_drawing_counts_of_few_kinds_is_resampling_rows() -> None:
    values = np.repeat([0.0, 1.0, -1.0], [50, 30, 20])
    jittered = values + np.random.default_rng(0).normal(0, 1e-9, size=values.size)
    drawn, resampled = bootstrap(values), bootstrap(jittered)
    assert (drawn.low, drawn.high) == pytest.approx((resampled.low, resampled.high), abs=0.012)


def test_a_weighted_mean_weighs_rows_by_their_tokens() -> None:
    values, weights = np.array([1.0, 3.0, 5.0]), np.array([1.0, 1.0, 2.0])
    assert bootstrap(values, weights).value == pytest.approx(3.5)


def test_equal_weights_change_nothing() -> None:
    values = np.random.default_rng(1).normal(size=50)
    weighted, plain = bootstrap(values, np.full(50, 7.0)), bootstrap(values)
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high))


def test_the_same_seed_gives_the_same_interval_and_another_seed_a_close_one() -> None:
    values = np.random.default_rng(2).exponential(size=60)
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5)
    assert bootstrap(values, seed=5).low == pytest.approx(bootstrap(values, seed=6).low, abs=0.02)


def test_bca_moves_the_interval_towards_the_long_tail() -> None:
    values = np.random.default_rng(4).exponential(size=40) ** 2
    plain, corrected = bootstrap(values), bootstrap(values, method="bca")
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_one_row_or_equal_rows_give_a_point_and_no_rows_an_error() -> None:
    assert bootstrap(np.array([2.0])) == bootstrap(np.full(9, 2.0))
    with pytest.raises(UsageError, match="no rows"):
        bootstrap(np.array([]))


@pytest.mark.parametrize(("method", "rows"), [("percentile", 12), ("percentile", 60), ("bca", 60)])
def test_intervals_of_weighted_means_cover_the_truth_as_often_as_they_say(method: Method, rows: int) -> None:
    rng, trials = np.random.default_rng(rows), 250
    covered = 0
    for trial in range(trials):
        weights = rng.integers(5, 50, size=rows).astype(np.float64)
        interval = bootstrap(rng.normal(size=rows), weights, method=method, resamples=500, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.91 <= covered / trials <= 0.98
