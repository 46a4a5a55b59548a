"""Weights under which no skill of a stack loses much: first without gradients, then a few steps along them.

What is made small is the worst skill's loss of its own gain, and a little of the mean, so that the others are not
forgotten where one is stuck. The way is found by losses, which are smooth and quick; where skills are scored by right
answers, a few weightings of low loss answer for themselves, and the best of them is taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from nomoat.core.records import Done, Note, Progress, Record
from nomoat.core.store import Store
from nomoat.engine.names import Worn
from nomoat.formats.weights import Array
from nomoat.kernels.blocks import quick_products
from nomoat.model.load import Base
from nomoat.stack.job import OpenStack
from nomoat.stack.options import SkillOptions, check_skills
from nomoat.stack.simplex import descend
from nomoat.stack.skills import Scoring, Skill, by_loss, read_skills, shares_kept
from nomoat.stack.slope import loss_and_slope, parts_of, softmax
from nomoat.stack.update import is_low_rank

_STEP = 0.35  # first step along each weight: from 1 to about two thirds
_MEAN_SHARE = 0.1
_SHARPNESS = 20.0  # of the smooth maximum that the gradient follows
_FIRST_STRIDE = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What every weighting is measured against: the bare base's and each adapter's own score, by skill."""

    skills: tuple[Skill, ...]
    bare: tuple[float, ...]
    alone: tuple[float, ...]
    scoring: Scoring

    def kept(self, scores: Sequence[float]) -> list[float]:
        """Share of its own gain that each skill keeps."""
        return shares_kept(scores, self.bare, self.alone)


@dataclasses.dataclass(frozen=True, slots=True)
class Weighting:
    """Weights and what is kept under them, by skill."""

    weights: tuple[float, ...]
    kept: tuple[float, ...]

    @property
    def cost(self) -> float:
        """What the search makes small."""
        lost = [1 - share for share in self.kept]
        return max(lost) + _MEAN_SHARE * sum(lost) / len(lost)


def search(opened: OpenStack, options: SkillOptions, store: Store, scoring: Scoring | None = None) -> Generator[Record]:
    """Find weights on validation rows and measure them on test rows; ends with ``Done("search")``.

    ``scoring``: what a skill is kept by; its loss where nothing is said. Raises ``UsageError`` where no skill can be
    measured.
    """
    check_skills(options)
    skills = yield from _skills(opened, options, store, "valid")
    ground = yield from _ground(opened, skills, by_loss(opened.base), "valid")
    tried = yield from best_weights(opened.base, opened.worn, ground, options)
    if scoring is not None:
        ground = yield from _ground(opened, skills, scoring, "valid")
        tried = yield from _finals(opened.worn, tried, ground, options.finalists)
    found = tried[0]
    yield from _verdict(opened.worn, found, ground, options.keep)
    skills = yield from _skills(opened, options, store, "test")
    tested = yield from _ground(opened, skills, scoring or by_loss(opened.base), "test")
    before = _measured(opened.worn, [weight for _, weight in opened.worn], tested)
    after = _measured(opened.worn, found.weights, tested)
    names = [adapter.name for adapter, _ in opened.worn]
    result: dict[str, Any] = {
        "weights": dict(zip(names, found.weights)),
        "skills": [skill.adapter for skill in ground.skills],
        "kept_valid": list(found.kept),
        "kept_test": list(after.kept),
        "kept_test_before": list(before.kept),
        "keep": options.keep,
        "units": [ground.scoring.unit(skill) for skill in ground.skills],
        "within": [
            {"weights": dict(zip(names, each.weights)), "kept": list(each.kept)}
            for each in tried
            if min(each.kept) >= options.keep
        ],
    }
    yield Done("search", None, result)


def _skills(
    opened: OpenStack, options: SkillOptions, store: Store, split: str
) -> Generator[Record, None, tuple[Skill, ...]]:
    return (
        yield from read_skills(
            store, opened.base, opened.worn, opened.folders, data=options.data, split=split, limit=options.limit
        )
    )


def _finals(
    worn: Worn, tried: Sequence[Weighting], ground: Ground, finalists: int
) -> Generator[Record, None, list[Weighting]]:
    """The weightings of lowest loss, and the one that was given, by the score that counts; best first."""
    given = tuple(float(weight) for _, weight in worn)
    asked = list(dict.fromkeys([*(each.weights for each in tried[:finalists]), given]))
    found = []
    for done, weights in enumerate(asked, start=1):
        found.append(_measured(worn, weights, ground))
        yield Progress("the finalists answer", done, len(asked), "weightings")
    return sorted(found, key=lambda each: each.cost)  # stable: of equals, the one of lower loss


def _ground(
    opened: OpenStack, skills: tuple[Skill, ...], scoring: Scoring, split: str
) -> Generator[Record, None, Ground]:
    score = scoring.score
    own = {adapter.name: ((adapter, weight),) for adapter, weight in opened.worn}
    bare = tuple(score(skill, ()) for skill in skills)
    yield Progress(f"each skill alone, {split} rows", 1, 2)
    alone = tuple(score(skill, own[skill.adapter]) for skill in skills)
    yield Progress(f"each skill alone, {split} rows", 2, 2)
    for skill, before, after in zip(skills, bare, alone):
        if after >= before:
            gone = f"{before:.4f} to {after:.4f}, {scoring.unit(skill)}"
            yield Note(f"{skill.adapter} alone does not better the base on {skill.data} ({gone})", warning=True)
    return Ground(skills, bare, alone, scoring)


def best_weights(
    base: Base, worn: Worn, ground: Ground, options: SkillOptions
) -> Generator[Record, None, list[Weighting]]:
    """All weightings that were tried on the ground's rows, the one of lowest cost first."""
    start = np.array([weight for _, weight in worn])
    tried: list[Weighting] = []

    def cost(weights: Array) -> float:
        tried.append(_tried(worn, weights.tolist(), ground))
        return tried[-1].cost

    for done, _ in enumerate(descend(cost, start, step=_STEP, budget=options.budget), start=1):
        yield Progress("searching weights", done, options.budget, "weightings")
    if options.gradient_steps and all(is_low_rank(adapter) for adapter, _ in worn):
        best = min(tried, key=lambda each: each.cost)
        tried += yield from _along_the_gradient(base, worn, ground, best, options.gradient_steps)
    return sorted(tried, key=lambda each: each.cost)


def _measured(worn: Worn, weights: Sequence[float], ground: Ground) -> Weighting:
    stack = tuple((adapter, weight) for (adapter, _), weight in zip(worn, weights))
    scores = [ground.scoring.score(skill, stack) for skill in ground.skills]
    return Weighting(tuple(float(weight) for weight in weights), tuple(ground.kept(scores)))


def _tried(worn: Worn, weights: Sequence[float], ground: Ground) -> Weighting:
    """Measured on the validation rows, to find the way; the test rows are measured in float32."""
    with quick_products():
        return _measured(worn, weights, ground)


def _along_the_gradient(
    base: Base, worn: Worn, ground: Ground, best: Weighting, steps: int
) -> Generator[Record, None, list[Weighting]]:
    """Steps down the slope of a smooth maximum over skills; one that does not help halves the stride."""
    parts, stride, found = parts_of(worn), _FIRST_STRIDE, list[Weighting]()
    for step in range(1, steps + 1):
        slopes = [loss_and_slope(base, parts, best.weights, skill.rows)[1] for skill in ground.skills]
        gains = [max(before - own, 1e-9) for before, own in zip(ground.bare, ground.alone)]
        shares = softmax([1 - kept for kept in best.kept], _SHARPNESS)
        slope = sum(
            (share / gain) * np.array(each) for share, gain, each in zip(shares, gains, slopes)
        )  # of the smooth maximum of the lost shares, by weight
        norm = float(np.linalg.norm(slope))
        if norm == 0.0 or not math.isfinite(norm):
            break
        tried = _tried(worn, (np.array(best.weights) - stride * slope / norm).tolist(), ground)
        found.append(tried)
        if tried.cost < best.cost:
            best = tried
        else:
            stride /= 2
        yield Progress("following the gradient", step, steps, "steps")
    return found


def _verdict(worn: Worn, found: Weighting, ground: Ground, keep: float) -> Generator[Note]:
    weights = ", ".join(f"{adapter.name}:{weight:.3f}" for (adapter, _), weight in zip(worn, found.weights))
    worst = min(range(len(found.kept)), key=lambda place: found.kept[place])
    word = "every skill keeps" if found.kept[worst] >= keep else "no weighting was found under which every skill keeps"
    yield Note(
        f"{word} {keep:.0%} of its own gain: {weights}; least is kept of {ground.skills[worst].adapter} "
        f"({found.kept[worst]:.1%})",
        warning=found.kept[worst] < keep,
    )
