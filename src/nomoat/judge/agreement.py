"""Do voters agree? As often as any two of them say the same of the same question, and beyond what chance would give.

Chance is taken off as in Krippendorff's alpha for names ("Computing Krippendorff's Alpha-Reliability", 2011): 1 is
agreement throughout, 0 what votes drawn at random from all would give. Intervals are bootstrapped over questions.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from nomoat.judge.ratings import RESAMPLES
from nomoat.judge.statistics import CONFIDENCE, Floats, Interval, wilson
from nomoat.judge.verdict import SMALL_COUNT
from nomoat.judge.votes import Vote

FEWEST: Final = 2  # questions in common: one has no spread
_SAID: Final = {"model_a": 0, "model_b": 1, "tie": 2, "both_bad": 2}
_TAILS: Final = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """Between ``voters``, on ``questions`` that two or more of them judged for the same two models.

    ``share``: how often two votes are the same. ``alpha`` is ``None`` where all votes are: nothing could differ.
    """

    voters: tuple[str, ...]
    questions: int
    share: Interval
    alpha: Interval | None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def agreements(votes: Sequence[Vote]) -> tuple[Agreement, ...]:
    """Of all voters together, then of every two; only those with enough questions in common.

    A voter's last vote on a question and two models counts; a tie and "both bad" are one answer. Each vote is on
    answers that were written for it, so models that draw at random make voters differ, too.
    """
    voters = sorted({vote.voter for vote in votes})
    groups = [tuple(voters)] if len(voters) > 2 else []
    found = [_agreement(votes, group) for group in (*groups, *itertools.combinations(voters, 2))]
    return tuple(each for each in found if each is not None)


def _agreement(votes: Sequence[Vote], voters: tuple[str, ...]) -> Agreement | None:
    said: dict[str, dict[str, int]] = {}
    for vote in votes:
        if vote.voter in voters:
            item = json.dumps([vote.prompt, vote.later, vote.model_a, vote.model_b])
            said.setdefault(item, {})[vote.voter] = _SAID[vote.winner]
    several = [list(each.values()) for each in said.values() if len(each) > 1]
    if len(several) < FEWEST:
        return None
    counts = np.array([np.bincount(each, minlength=3) for each in several], dtype=np.float64)
    return Agreement(voters, len(several), *measured(counts))


def measured(counts: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Interval, Interval | None]:
    """The share of equal pairs of votes, and alpha, from counts (questions, answers) with two or more votes each.

    Under ``SMALL_COUNT`` questions both intervals are widened to hold Wilson's: resamples of a few questions on which
    all agree know of nothing else.
    """
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    shares, alphas, _ = _measures(counts, drawn)
    (share,), (alpha,), (expected,) = _measures(counts, np.ones((1, n)))
    bounds = [*np.quantile(shares, _TAILS)]
    plain = wilson(float(share) * n, n)
    small = [plain.low, plain.high] if n < SMALL_COUNT else []
    found = _interval(share, [*bounds, *small])
    if not expected > 0:
        return found, None
    known = np.quantile(alphas[np.isfinite(alphas)], _TAILS)
    return found, _interval(alpha, [*known, *(1 - (1 - bound) / expected for bound in small)])


def _interval(value: float, bounds: Sequence[float]) -> Interval:
    return Interval(float(value), float(min(bounds)), float(max(bounds)))


def _measures(counts: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Share, alpha and expected disagreement of every resample.

    ``weights`` (resamples, questions) is how often each question was drawn.
    """
    votes = counts.sum(axis=1)
    equal = (counts * (counts - 1)).sum(axis=1)  # ordered pairs that say the same
    shares = (weights @ equal) / (weights @ (votes * (votes - 1)))
    totals = weights @ counts  # (resamples, answers)
    n = totals.sum(axis=1)
    observed = 1 - (weights @ (equal / (votes - 1))) / n
    expected = 1 - (totals * (totals - 1)).sum(axis=1) / (n * (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        alphas = np.where(expected > 0, 1 - observed / expected, np.nan)
    return np.asarray(shares), np.asarray(alphas), np.asarray(expected)
