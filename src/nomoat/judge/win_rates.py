"""Win rates of two models on the same questions by a judge that took its exam, or why there are none.

The length-controlled rate is what the judge would say were both answers of one length (``length.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from nomoat.judge.exam import Exam, corrected
from nomoat.judge.length import length_controlled
from nomoat.judge.pairwise import Pair, Verdict
from nomoat.judge.statistics import RESAMPLES, Floats, Interval, bootstrap


@dataclasses.dataclass(frozen=True, slots=True)
class WinRates:
    """The first model's share of wins, ties half, with 95 % intervals.

    ``withheld`` says why the rates are not to be shown; they are ``None`` then.
    """

    wins: int
    ties: int
    losses: int
    rate: Interval | None
    length_controlled: Interval | None
    corrected: Interval | None
    withheld: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def win_rates(pairs: Sequence[Pair], found: Sequence[Verdict], exam: Exam, *, seed: int = 0) -> WinRates:
    """Sum up the verdicts on ``pairs``, whose first answers are the first model's."""
    winners = [each.winner for each in found]
    counts = winners.count("first"), winners.count("tie"), winners.count("second")
    if not exam.passed:
        return WinRates(*counts, None, None, None, withheld=exam.withheld)
    points = np.array([each.points for each in found])
    return WinRates(
        *counts,
        rate=bootstrap(points, seed=seed),
        length_controlled=length_controlled(
            np.array([len(pair.first) - len(pair.second) for pair in pairs], dtype=np.float64), points, seed=seed
        ),
        corrected=_corrected(points, exam, seed),
    )


def _corrected(points: Floats, exam: Exam, seed: int) -> Interval:
    """Both what was observed and how often the judge is right are uncertain: drawn together."""
    rng = np.random.default_rng(seed)
    settled = next(part.pairs for part in exam.parts if part.name == "agreement")
    right = exam.agreement.value * settled
    agreements = rng.beta(right + 0.5, settled - right + 0.5, RESAMPLES)
    shares = points[rng.integers(0, points.size, (RESAMPLES, points.size))].mean(axis=1)
    draws = [corrected(share, max(agreement, 0.501)) for share, agreement in zip(shares, agreements)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(corrected(float(points.mean()), exam.agreement.value), float(low), float(high))
