"""Bradley-Terry ratings: against a reference, their coverage, and what has no answer."""

from __future__ import annotations

import math
import random

import choix
import numpy as np
import pytest

from nomoat.core.errors import DataError
from nomoat.judge.ratings import CENTRE, POINTS, Battle, Winner, rate, strengths_of


def simulated(strengths: dict[str, float], battles: int, seed: int, ties: float = 0.0) -> list[Battle]:
    """Battles of random pairs, drawn from the model itself."""
    rng = random.Random(seed)
    names = list(strengths)
    made = []
    for _ in range(battles):
        a, b = rng.sample(names, 2)
        winner: Winner = "model_a" if rng.random() < 1 / (1 + math.exp(strengths[b] - strengths[a])) else "model_b"
        made.append(Battle(a, b, "tie" if rng.random() < ties else winner))
    return made


FIVE = {"a": 1.0, "b": 0.4, "c": 0.0, "d": -0.3, "e": -1.1}


def test_ratings_equal_those_of_a_reference_implementation() -> None:
    battles = simulated(FIVE, 400, seed=1)
    names = sorted(FIVE)
    pairs = [
        tuple(
            names.index(name) for name in ((x.model_a, x.model_b) if x.winner == "model_a" else (x.model_b, x.model_a))
        )
        for x in battles
    ]
    reference = choix.opt_pairwise(len(names), pairs, alpha=0.0, method="Newton-CG", tol=1e-12)
    ours = rate(battles, resamples=10)
    found = {name: (rating.value - CENTRE) / POINTS for name, rating in zip(ours.models, ours.ratings)}
    assert np.allclose([found[name] for name in names], reference - reference.mean(), atol=1e-6)


def test_the_order_of_the_votes_and_of_the_sides_changes_nothing() -> None:
    battles = simulated(FIVE, 200, seed=2, ties=0.2)
    shuffled = battles.copy()
    random.Random(0).shuffle(shuffled)
    turned: dict[Winner, Winner] = {"model_a": "model_b", "model_b": "model_a", "tie": "tie", "both_bad": "both_bad"}
    swapped = [Battle(x.model_b, x.model_a, turned[x.winner]) for x in shuffled]
    first, second = rate(battles), rate(swapped)
    assert first.models == second.models
    assert first.ratings == second.ratings


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = {"a": 0.5, "b": 0.0, "c": -0.5}
    covered = total = 0
    for seed in range(500):
        ratings = rate(simulated(truth, 120, seed=seed), resamples=100, seed=seed)
        for name, interval in zip(ratings.models, ratings.ratings):
            covered += interval.low <= CENTRE + POINTS * truth[name] <= interval.high
            total += 1
    assert 0.90 <= covered / total <= 0.99


def test_a_difference_is_told_from_the_joint_resamples() -> None:
    ratings = rate(simulated(FIVE, 1000, seed=3))
    between = ratings.difference("a", "e")
    assert between.low > 0
    assert between.low < between.value < between.high
    apart = ratings.ratings[0].high - ratings.ratings[-1].low
    assert between.high < apart


def test_a_tie_counts_half_for_each_side() -> None:
    tied = rate([Battle("x", "y", "tie"), Battle("y", "x", "both_bad")])
    assert [rating.value for rating in tied.ratings] == pytest.approx([CENTRE, CENTRE])
    ahead = rate([Battle("x", "y", "model_a"), Battle("x", "y", "tie")])
    assert ahead.models[0] == "x"
    assert ahead.ratings[0].value - ahead.ratings[1].value == pytest.approx(POINTS * math.log(3))


def test_a_model_that_never_lost_has_no_finite_rating_without_a_prior() -> None:
    battles = [Battle("x", "y", "model_a")] * 3
    with pytest.raises(DataError, match="no chain of wins leads from 'y' to 'x'"):
        rate(battles)
    assert rate(battles, prior=1.0).models == ("x", "y")


def test_groups_that_never_met_cannot_be_compared() -> None:
    battles = [Battle("a", "b", "tie"), Battle("c", "d", "tie")]
    with pytest.raises(DataError, match="no chain of wins"):
        rate(battles)


def test_no_battles_and_a_model_against_itself_are_refused() -> None:
    with pytest.raises(DataError, match="no battles"):
        rate([])
    with pytest.raises(DataError, match="fought itself"):
        rate([Battle("x", "x", "tie")])


def test_strengths_far_apart_still_converge() -> None:
    wins = np.array([[[0.0, 1e6], [1.0, 0.0]]])
    assert strengths_of(wins, 0.0)[0] == pytest.approx([math.log(1e6) / 2, -math.log(1e6) / 2], abs=1e-6)
