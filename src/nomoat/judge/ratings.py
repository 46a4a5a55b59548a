"""Ratings from battles: Bradley and Terry's model, Biometrika 39 (1952), with bootstrap intervals.

A model of strength s beats one of strength t with probability ``1 / (1 + exp(t - s))``. A tie, and "both bad", count as
half a win for each side, which leaves the likelihood concave. Strengths are shown on Elo's scale around 1,000, where
400 points are odds of ten to one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from nomoat.core.errors import DataError
from nomoat.judge.statistics import CONFIDENCE, Floats, Interval

Winner = Literal["model_a", "model_b", "tie", "both_bad"]

POINTS: Final = 400 / math.log(10)
CENTRE: Final = 1000.0
RESAMPLES: Final = 1000
_STEPS: Final = 50
_CLOSE: Final = 1e-10
_EDGE: Final = 0.01  # ties with an average player that keep a resample finite in which somebody never lost


@dataclasses.dataclass(frozen=True, slots=True)
class Battle:
    """One comparison, in FastChat's words."""

    model_a: str
    model_b: str
    winner: Winner


@dataclasses.dataclass(frozen=True, slots=True)
class Ratings:
    """``models`` from strongest to weakest; ``ratings`` with 95 % intervals; ``draws`` (resamples, n) of the same.

    ``wins[i, j]`` is how often i beat j, ties half; ``battles[i, j]`` how often they met.
    """

    models: tuple[str, ...]
    ratings: tuple[Interval, ...]
    draws: Floats
    wins: Floats
    battles: Floats

    def difference(self, stronger: str, weaker: str) -> Interval:
        """Points between two models, from the joint resamples: narrower than the two intervals suggest."""
        i, j = self.models.index(stronger), self.models.index(weaker)
        value = self.ratings[i].value - self.ratings[j].value
        low, high = np.quantile(self.draws[:, i] - self.draws[:, j], _TAILS)
        return Interval(value, float(low), float(high))


_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def rate(battles: Sequence[Battle], *, prior: float = 0.0, resamples: int = RESAMPLES, seed: int = 0) -> Ratings:
    """Rate everybody who fought; the order of the battles does not matter.

    ``prior`` ties of every model with an average player: 0 is maximum likelihood. Raises ``DataError`` where that has
    no finite answer (Ford 1957: some group of models never lost to the rest, or never met it).
    """
    models = sorted({name for battle in battles for name in (battle.model_a, battle.model_b)})
    kinds, counts = _kinds(battles, models)
    wins = _wins(kinds, counts.astype(np.float64)[None, :], len(models))[0]
    if prior == 0:
        _check_finite(wins, models)
    strengths = strengths_of(wins[None], prior)[0]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(battles), counts / counts.sum(), size=resamples).astype(np.float64)
    draws = CENTRE + POINTS * strengths_of(_wins(kinds, drawn, len(models)), prior or _EDGE)
    values = CENTRE + POINTS * strengths
    order = sorted(range(len(models)), key=lambda i: (-values[i], models[i]))
    lows, highs = np.quantile(draws, _TAILS, axis=0)
    return Ratings(
        models=tuple(models[i] for i in order),
        ratings=tuple(Interval(float(values[i]), float(lows[i]), float(highs[i])) for i in order),
        draws=draws[:, order],
        wins=wins[np.ix_(order, order)],
        battles=(wins + wins.T)[np.ix_(order, order)],
    )


def strengths_of(wins: Floats, prior: float) -> Floats:
    """Maximum of the likelihood by Newton's method. wins (B, n, n) -> log-strengths (B, n), each summing to 0."""
    n = wins.shape[1]
    met = wins + wins.transpose(0, 2, 1)
    won = wins.sum(2) + prior / 2
    strengths = np.zeros(wins.shape[:2])
    for _ in range(_STEPS):
        expected = _chance(strengths[:, :, None] - strengths[:, None, :])  # (B, n, n)
        phantom = prior * _chance(strengths)
        gradient = won - (met * expected).sum(2) - phantom
        spread = met * expected * (1 - expected)
        curvature = -spread
        diagonal = spread.sum(2) + phantom * (1 - _chance(strengths))
        curvature[:, range(n), range(n)] += diagonal
        curvature += 1.0 / n  # strengths are told apart by differences only: this fixes their sum
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        strengths += step / np.maximum(1.0, size)  # at most one nat at a time: Newton overshoots from afar
        if float(size.max(initial=0.0)) < _CLOSE:
            break
    centred: Floats = strengths - strengths.mean(axis=1, keepdims=True)
    return centred


def _chance(difference: Floats) -> Floats:
    """The logistic function, safe at both ends."""
    return np.asarray(0.5 * (1 + np.tanh(difference / 2)))


def _kinds(battles: Sequence[Battle], models: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct outcomes as (k, 3) of winner, loser, whether it was a tie; and how often each occurred (k,)."""
    if not battles:
        raise DataError("there are no battles to rate", hint="vote first")
    place = {name: i for i, name in enumerate(models)}
    rows = []
    for battle in battles:
        a, b = place[battle.model_a], place[battle.model_b]
        if a == b:
            raise DataError(f"{battle.model_a!r} fought itself")
        tied = battle.winner in ("tie", "both_bad")
        first, second = (b, a) if battle.winner == "model_b" or (tied and b < a) else (a, b)
        rows.append((first, second, int(tied)))
    kinds, counts = np.unique(np.array(rows, dtype=np.int64), axis=0, return_counts=True)
    return kinds, counts


def _wins(kinds: NDArray[np.int64], counts: Floats, n: int) -> Floats:
    """counts (B, k) of outcomes to wins (B, n, n)."""
    wins = np.zeros((counts.shape[0], n, n))
    for column, (winner, loser, tied) in enumerate(kinds):
        wins[:, winner, loser] += counts[:, column] * (0.5 if tied else 1.0)
        if tied:
            wins[:, loser, winner] += 0.5 * counts[:, column]
    return wins


def _check_finite(wins: Floats, models: list[str]) -> None:
    """Ford's condition: from every model a chain of wins must lead to every other."""
    reach = wins > 0
    for via in range(len(models)):
        reach |= reach[:, via : via + 1] & reach[via : via + 1, :]
    for i, name in enumerate(models):
        missing = [models[j] for j in range(len(models)) if j != i and not reach[i, j]]
        if missing:
            raise DataError(
                f"no chain of wins leads from {name!r} to {missing[0]!r}, so their distance has no bound",
                hint="collect more votes, or rate with a prior",
            )
