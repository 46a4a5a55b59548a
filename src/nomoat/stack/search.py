"""Weights under which no skill of a stack loses much: a few found without gradients, then finer ones learned.

What is made small is the worst skill's loss of its own gain, and a little of the mean, so that the others are not
forgotten where one is stuck. The way is found by losses, which are smooth and quick; where skills are scored by right
answers, a few weightings of low loss answer for themselves, and the best of them is taken. Only validation rows are
looked at until that is settled; test rows say what it is worth.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from nomoat.core.records import Done, Note, Progress, Record
from nomoat.core.store import Store
from nomoat.engine.names import Worn
from nomoat.formats.weights import Array
from nomoat.kernels.quick import quick_products
from nomoat.model.delta import stack_key
from nomoat.stack.coefficients import found_coefficients, in_words, weighted
from nomoat.stack.fit import Fitting, fit, prepare
from nomoat.stack.grid import alike
from nomoat.stack.job import OpenStack
from nomoat.stack.options import SkillOptions, check_skills
from nomoat.stack.search_plan import SearchPlan, Timing, plan_search
from nomoat.stack.simplex import descend
from nomoat.stack.skills import Scoring, Skill, by_loss, read_skills
from nomoat.stack.weighting import Ground, Weighting

_STEP = 0.35  # first step along each weight: from 1 to about two thirds


def search(
    opened: OpenStack, options: SkillOptions, store: Store, scoring: Scoring | None = None
) -> Generator[Record, None, OpenStack]:
    """Find weights on validation rows and measure them on test rows; ends with ``Done("search")``.

    Returns the stack at these weights; finer ones than one for each adapter are inside its adapters. ``scoring``: what
    a skill is kept by; its loss where nothing is said. Raises ``UsageError`` where no skill can be measured.
    """
    check_skills(options)
    deadline = math.inf if options.minutes is None else time.perf_counter() + 60 * options.minutes
    skills = yield from _skills(opened, options, store, "valid")
    ground = yield from _ground(opened, skills, by_loss(opened.base), "valid")
    counts = ground if scoring is None else (yield from _ground(opened, skills, scoring, "valid"))
    fitting = yield from _fitting(opened, ground, options)
    once_s, step_s = (fitting.pass_s, fitting.step_s) if fitting else (ground.seconds, 0.0)
    timing = Timing(once_s, step_s, counts.seconds, scoring is not None)
    plan = plan_search(options, timing, deadline - time.perf_counter())
    yield Note(str(plan))
    began = time.perf_counter()
    tried = yield from _without_gradient(opened.worn, ground, plan, deadline)
    if fitting is not None and plan.steps:
        tried += yield from _learned(fitting, ground, tried[0], plan, deadline)
        tried.sort(key=lambda each: each.cost)
    if counts is not ground:
        tried = yield from _finals(opened.worn, tried, counts, options.finalists)
    yield from _verdict(tried[0], counts, options.keep)
    skills = yield from _skills(opened, options, store, "test")
    tested = yield from _ground(opened, skills, scoring or by_loss(opened.base), "test")
    result = _result(tried, counts, tested, Weighting(opened.worn), options.keep)
    took = {"predicted_s": plan.seconds, "seconds": time.perf_counter() - began}
    yield Done("search", None, {**result, **took})
    return dataclasses.replace(opened, worn=tried[0].worn, coefficients=tried[0].finer)


def _result(
    tried: Sequence[Weighting], ground: Ground, tested: Ground, given: Weighting, keep: float
) -> dict[str, Any]:
    """What was found, first of what was tried, and what it is worth on test rows beside the weights that were given."""
    found = tried[0]
    return {
        **found.as_dict(),
        "skills": [skill.adapter for skill in ground.skills],
        "kept_valid": list(found.kept),
        "kept_test": list(tested.measured(found).kept),
        "kept_test_before": list(tested.measured(given).kept),
        "gains": [own < before for before, own in zip(ground.bare, ground.alone)],
        "keep": keep,
        "units": [ground.scoring.unit(skill) for skill in ground.skills],
        "within": [each.as_dict() for each in tried if min(each.kept) >= keep],
    }


def _skills(
    opened: OpenStack, options: SkillOptions, store: Store, split: str
) -> Generator[Record, None, tuple[Skill, ...]]:
    return (
        yield from read_skills(
            store, opened.base, opened.worn, opened.folders, data=options.data, split=split, limit=options.limit
        )
    )


def _ground(
    opened: OpenStack, skills: tuple[Skill, ...], scoring: Scoring, split: str
) -> Generator[Record, None, Ground]:
    score, began = scoring.score, time.perf_counter()
    own = {adapter.name: ((adapter, weight),) for adapter, weight in opened.worn}
    bare = tuple(score(skill, ()) for skill in skills)
    yield Progress(f"each skill alone, {split} rows", 1, 2)
    alone = tuple(score(skill, own[skill.adapter]) for skill in skills)
    yield Progress(f"each skill alone, {split} rows", 2, 2)
    for skill, before, after in zip(skills, bare, alone):
        if after >= before:
            gone = f"{before:.4f} to {after:.4f}, {scoring.unit(skill)}"
            yield Note(f"{skill.adapter} alone does not better the base on {skill.data} ({gone})", warning=True)
    return Ground(skills, bare, alone, scoring, (time.perf_counter() - began) / 2)


def _fitting(opened: OpenStack, ground: Ground, options: SkillOptions) -> Generator[Record, None, Fitting | None]:
    """What learns the weights, where that is asked for and a skill gains anything."""
    if not options.gradient_steps:
        return None
    gains = [before - own for before, own in zip(ground.bare, ground.alone)]
    return (yield from prepare(opened.base, opened.worn, options.grain, list(zip(ground.skills, gains))))


def _one_each(worn: Worn, weights: Sequence[float]) -> Weighting:
    """One weight for each adapter."""
    return Weighting(tuple((adapter, float(weight)) for (adapter, _), weight in zip(worn, weights)))


def _without_gradient(
    worn: Worn, ground: Ground, plan: SearchPlan, deadline: float
) -> Generator[Record, None, list[Weighting]]:
    """All weightings that were tried on the ground's rows, the one of lowest cost first."""
    tried: list[Weighting] = []

    def cost(weights: Array) -> float:
        with quick_products():  # to find the way; the test rows are measured in float32
            tried.append(ground.measured(_one_each(worn, weights.tolist())))
        return tried[-1].cost

    start = np.array([weight for _, weight in worn])
    for done, _ in enumerate(descend(cost, start, step=_STEP, budget=plan.weightings), start=1):
        yield Progress("searching weights", done, plan.weightings, "weightings")
        if time.perf_counter() > deadline - plan.closing_s:
            break
    return sorted(tried, key=lambda each: each.cost)


def _learned(
    fitting: Fitting, ground: Ground, best: Weighting, plan: SearchPlan, deadline: float
) -> Generator[Record, None, list[Weighting]]:
    """The best weighting made finer; nothing where that does not help on rows that were held back."""
    shares = alike([adapter for adapter, _ in best.worn], [weight for _, weight in best.worn])
    values = yield from fit(fitting, shares, steps=plan.steps, deadline=deadline - plan.closing_s)
    if values is None:
        yield Note("learning the weights did not better the rows that were held back from it")
        return []
    finer = Weighting(weighted(fitting.grid, values), finer=found_coefficients(fitting.grid, values))
    with quick_products():
        return [ground.measured(finer)]


def _finals(
    worn: Worn, tried: Sequence[Weighting], ground: Ground, finalists: int
) -> Generator[Record, None, list[Weighting]]:
    """The weightings of lowest loss, and the one that was given, by the score that counts; best first."""
    asked = list({stack_key(each.worn): each for each in (*tried[:finalists], Weighting(worn))}.values())
    found = []
    for done, each in enumerate(asked, start=1):
        found.append(ground.measured(each))
        yield Progress("the finalists answer", done, len(asked), "weightings")
    return sorted(found, key=lambda each: each.cost)  # stable: of equals, the one of lower loss


def _verdict(found: Weighting, ground: Ground, keep: float) -> Generator[Note]:
    said = found.as_dict()
    weights = ", ".join(f"{name}:{weight:.3f}" for name, weight in said["weights"].items())
    worst = min(range(len(found.kept)), key=lambda place: found.kept[place])
    word = "every skill keeps" if found.kept[worst] >= keep else "no weighting was found under which every skill keeps"
    finer = "" if found.finer is None else f" on average, {in_words(found.finer.grain)}"
    yield Note(
        f"{word} {keep:.0%} of its own gain: {weights}{finer}; least is kept of {ground.skills[worst].adapter} "
        f"({found.kept[worst]:.1%})",
        warning=found.kept[worst] < keep,
    )
