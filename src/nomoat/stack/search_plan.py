"""How much a search tries, and how long that takes, from what a first measurement of each kind took."""

from __future__ import annotations

import dataclasses
import math

from nomoat.core.amounts import duration
from nomoat.stack.fit import MEASUREMENTS
from nomoat.stack.options import SkillOptions
from nomoat.stack.skill_loss import HELD_BACK

_FREE_SHARE = 0.3  # of the time left for the search without gradients, where steps are to follow
_SPREAD = 1.25  # of one measurement around the mean of many


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one weighting, of a step of learning (0: none follow), and of one weighting by the score that counts.

    ``own_score``: whether that score is another one than the loss, by which finalists are measured again.
    """

    weighting_s: float
    step_s: float
    score_s: float
    own_score: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SearchPlan:
    """What is tried, and the seconds it takes from now on; ``closing_s`` of them for measuring what was found."""

    weightings: int
    steps: int
    seconds: float
    closing_s: float

    def __str__(self) -> str:
        low, high = duration(self.seconds / _SPREAD), duration(self.seconds * _SPREAD)
        tried = f"{self.weightings} weighting{'s' * (self.weightings > 1)}"
        tried += f" and {self.steps} step{'s' * (self.steps > 1)} of learning" if self.steps else ""
        return f"{tried} will take about {duration(self.seconds)} ({low} to {high})"


def plan_search(options: SkillOptions, timing: Timing, left_s: float = math.inf) -> SearchPlan:
    """As much as was asked for, or as fits into ``left_s``; one weighting at least."""
    # Rows of both splits are alike in number: test rows are scored bare, alone, as given and as found.
    closing_s = timing.score_s * (4 + (options.finalists + 1 if timing.own_score else 0))
    steps = options.gradient_steps if timing.step_s else 0
    weightings = options.budget
    step_s = timing.step_s + timing.weighting_s * MEASUREMENTS / HELD_BACK / max(1, steps)
    if closing_s + weightings * timing.weighting_s + steps * step_s > left_s:
        free_s = max(0.0, left_s / _SPREAD - closing_s)
        weightings = min(weightings, max(1, int(free_s * (_FREE_SHARE if steps else 1.0) / timing.weighting_s)))
        steps = min(steps, max(0, int((free_s - weightings * timing.weighting_s) / step_s))) if steps else 0
    return SearchPlan(weightings, steps, closing_s + weightings * timing.weighting_s + steps * step_s, closing_s)
