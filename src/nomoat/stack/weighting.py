"""A stack at some weights, and what it is measured against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nomoat.engine.names import Worn
from nomoat.stack.coefficients import Coefficients
from nomoat.stack.skill_loss import MEAN_SHARE
from nomoat.stack.skills import Scoring, Skill, shares_kept


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What every weighting is measured against: the bare base's and each adapter's own score, by skill.

    ``seconds`` that one scoring of all skills took.
    """

    skills: tuple[Skill, ...]
    bare: tuple[float, ...]
    alone: tuple[float, ...]
    scoring: Scoring
    seconds: float

    def kept(self, scores: Sequence[float]) -> list[float]:
        """Share of its own gain that each skill keeps."""
        return shares_kept(scores, self.bare, self.alone)

    def measured(self, weighting: Weighting) -> Weighting:
        """The weighting with what each skill keeps under it."""
        scores = [self.scoring.score(skill, weighting.worn) for skill in self.skills]
        return dataclasses.replace(weighting, kept=tuple(self.kept(scores)))


@dataclasses.dataclass(frozen=True, slots=True)
class Weighting:
    """Adapters with their weights, and what is kept under them, by skill. ``finer``: weights inside the adapters."""

    worn: Worn
    kept: tuple[float, ...] = ()
    finer: Coefficients | None = None

    @property
    def cost(self) -> float:
        """What the search makes small."""
        lost = [1 - share for share in self.kept]
        return max(lost) + MEAN_SHARE * sum(lost) / len(lost)

    def as_dict(self) -> dict[str, Any]:
        """Weights by adapter, the share that each skill keeps, and the grain."""
        own = {adapter.name: weight for adapter, weight in self.worn}
        weights, grain = (own, "adapter") if self.finer is None else (self.finer.weights, self.finer.grain)
        return {"weights": weights, "kept": list(self.kept), "grain": grain}
