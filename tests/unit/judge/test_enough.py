"""Stopping rules and sample sizes."""

from __future__ import annotations

import math
import random

import pytest

from nomoat.core.errors import UsageError
from nomoat.judge.enough import enough, evidence, margin, rows_needed, votes_missing
from nomoat.judge.statistics import sign_test


def test_looking_after_every_vote_errs_at_most_one_time_in_twenty() -> None:
    rng = random.Random(0)
    wrong = 0
    for _ in range(400):
        wins = losses = 0
        for _ in range(300):
            wins, losses = (wins + 1, losses) if rng.random() < 0.5 else (wins, losses + 1)
            if enough(wins, losses):
                wrong += 1
                break
    assert wrong / 400 <= 0.05


def test_a_clear_preference_is_told_after_a_few_dozen_votes() -> None:
    assert not enough(8, 4)
    assert enough(30, 8)


def test_evidence_is_the_mixture_over_all_winning_chances() -> None:
    steps = 100_000
    mixture = sum(((i + 0.5) / steps) ** 7 * (1 - (i + 0.5) / steps) ** 3 for i in range(steps)) / steps
    assert evidence(7, 3) == pytest.approx(math.log(mixture * 2**10), rel=1e-6)


def test_the_votes_that_are_missing_settle_it_and_one_fewer_does_not() -> None:
    for wins, losses in ((0, 0), (5, 3), (2, 9), (40, 40)):
        missing = votes_missing(wins, losses)
        ahead, behind = max(wins, losses), min(wins, losses)
        assert enough(ahead + missing, behind)
        assert not enough(ahead + missing - 1, behind)
    assert votes_missing(60, 5) == 0


def test_more_questions_need_more_votes() -> None:
    assert votes_missing(10, 5, comparisons=10) > votes_missing(10, 5)


def test_the_planned_number_of_rows_shows_the_gain_as_often_as_promised() -> None:
    gain, changed = 0.1, 0.2
    rows = rows_needed(gain, changed)
    rng = random.Random(1)
    seen = 0
    for _ in range(400):
        draws = [rng.random() for _ in range(rows)]
        fixed = sum(draw < (changed + gain) / 2 for draw in draws)
        broken = sum((changed + gain) / 2 <= draw < changed for draw in draws)
        seen += sign_test(fixed, broken) < 0.05 and fixed > broken
    assert 0.72 <= seen / 400 <= 0.87


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(UsageError, match="changed share"):
        rows_needed(0.2, 0.1)
    with pytest.raises(UsageError, match="power"):
        rows_needed(0.1, 0.2, power=1.0)


def test_four_times_the_rows_halve_the_margin() -> None:
    assert margin(400) == pytest.approx(margin(100) / 2)
    assert margin(100) == pytest.approx(0.098, abs=5e-4)
