"""Verdicts drawn from known strengths: what so many battles would tell, before a judge spends hours on them.

A judge that errs tells less than this one: it is right exactly as often as Bradley and Terry's model says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nomoat.judge.matches import Match
from nomoat.judge.ratings import CENTRE, POINTS, Battle, Ratings
from nomoat.judge.statistics import rank_correlation


def planted_strengths(models: Sequence[str], spread: float, *, seed: int = 0) -> dict[str, float]:
    """Strengths on the scale of the ratings, evenly spaced over ``spread`` points, dealt to the models by lot."""
    dealt = random.Random(seed).sample(sorted(models), len(models))
    step = spread / max(1, len(dealt) - 1)
    return {name: CENTRE + spread / 2 - place * step for place, name in enumerate(dealt)}


def simulated(matches: Sequence[Match], strengths: Mapping[str, float], *, seed: int = 0) -> list[Battle]:
    """A winner for every match, never a tie."""
    rng = random.Random(seed)
    battles = []
    for each in matches:
        gap = (strengths[each.model_a] - strengths[each.model_b]) / POINTS
        wins = rng.random() < 1 / (1 + math.exp(-gap))
        battles.append(Battle(each.model_a, each.model_b, "model_a" if wins else "model_b"))
    return battles


def beside_planted(found: Ratings, strengths: Mapping[str, float], *, seed: int = 0) -> dict[str, Any]:
    """How many strengths lie inside their intervals, the rank correlation, and the pairs told apart, and wrongly."""
    mean = sum(strengths[name] for name in found.models) / len(found.models)
    truth = [CENTRE + strengths[name] - mean for name in found.models]
    inside = sum(each.low <= true <= each.high for each, true in zip(found.ratings, truth))
    told = wrong = 0
    for i, better in enumerate(found.models):
        for j in range(i + 1, len(found.models)):
            if found.difference(better, found.models[j]).low > 0:
                told += 1
                wrong += truth[i] < truth[j]
    values = np.array([each.value for each in found.ratings])
    return {
        "planted": dict(zip(found.models, truth)),
        "inside": inside,
        "correlation": rank_correlation(values, np.array(truth), seed=seed).as_dict(),
        "pairs": len(found.models) * (len(found.models) - 1) // 2,
        "told_apart": told,
        "told_wrongly": wrong,
    }
