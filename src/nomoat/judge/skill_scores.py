"""Skills of a stack scored by their checks: the share of answers that are wrong, where rows have answers to compare."""

from __future__ import annotations

import dataclasses

from nomoat.core.records import returned
from nomoat.core.store import Store
from nomoat.judge.measure import Subject
from nomoat.judge.options import JudgeOptions
from nomoat.judge.side import measured
from nomoat.judge.task import Chosen, Task, choose, make_task
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.stack.options import NATS
from nomoat.stack.skills import Scoring, Skill, by_loss


@dataclasses.dataclass(frozen=True, slots=True)
class _Ready:
    """A skill with its check and its rows made ready; the skill is held so that its identity stays its own."""

    skill: Skill
    chosen: Chosen
    task: Task


def by_checks(base: Base, store: Store, *, max_batch: int = 16) -> Scoring:
    """The share of wrong answers under the check that fits a skill's rows; for free text the loss, as ``by_loss``.

    Raises ``UsageError`` where no row of a skill can be judged.
    """
    ready: dict[int, _Ready] = {}
    losses = by_loss(base)

    def prepared(skill: Skill) -> _Ready:
        if id(skill) not in ready:
            options, rows = JudgeOptions(max_batch=max_batch), list(skill.plain)
            chosen = choose(options, rows)
            ready[id(skill)] = _Ready(skill, chosen, make_task(options, rows, chosen, base, skill.reading))
        return ready[id(skill)]

    def score(skill: Skill, stack: Stack) -> float:
        one = prepared(skill)
        if one.chosen.check.needs == "losses":
            return losses.score(skill, stack)
        side = returned(measured(Subject(base, stack, skill.data, store), one.task, one.chosen, max_batch=max_batch))
        return 1.0 - sum(side.correct) / len(side.correct)

    def unit(skill: Skill) -> str:
        check = prepared(skill).chosen.check
        return NATS if check.needs == "losses" else f"share wrong, check {check.name}"

    return Scoring(score, unit)
