"""The gate: every skill before a check, on the old base and stack, on the new base and the adapter that learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from nomoat.core.errors import UsageError
from nomoat.core.store import Store
from nomoat.data.rows import Row
from nomoat.engine.names import Worn
from nomoat.judge.measure import Measuring, Subject
from nomoat.judge.options import JudgeOptions
from nomoat.judge.questions import question
from nomoat.judge.side import Side, measured
from nomoat.judge.statistics import Floats, bootstrap, wilson
from nomoat.judge.task import Chosen, Task, choose, make_task
from nomoat.judge.verdict import SHARE, Comparison, compare_means, compare_shares
from nomoat.model.load import Base
from nomoat.move.relocation import Relocation
from nomoat.move.retention import Retention, retention

NATS_PER_BYTE = "nats per byte"
SUBJECTS = ("old base", "old stack", "new base", "moved")


@dataclasses.dataclass(frozen=True, slots=True)
class SkillTrial:
    """One skill made ready: the check, the same rows as either base reads them, and bytes of text in each row."""

    skill: str
    chosen: Chosen
    old: Task
    new: Task
    text_bytes: Floats


@dataclasses.dataclass(frozen=True, slots=True)
class SkillResult:
    """What came of one skill. ``values`` of the four subjects, an entry per row, higher is better.

    ``moved`` compares the student with the old stack, ``beside_new`` with what the new base does by itself.
    """

    trial: SkillTrial
    sides: dict[str, Side]
    values: dict[str, Floats]
    kept: Retention
    moved: Comparison
    beside_new: Comparison
    passed: bool


def prepare_trials(moving: Relocation, store: Store) -> list[SkillTrial]:
    """Choose a check for each skill and encode its rows for both bases. Raises ``UsageError`` where that cannot be."""
    options = JudgeOptions(model=moving.options.stack, check=moving.options.check, seed=moving.options.seed)
    trials = []
    for skill in moving.skills:
        rows = skill.splits["test"][: moving.options.limit or None]
        chosen = choose(options, rows)
        tasks = [_task(options, rows, chosen, base, moving) for base in (moving.old, moving.new)]
        both = sorted(set(tasks[0].numbers) & set(tasks[1].numbers))
        if not both:
            raise UsageError(f"{skill.name}: no held-out row can be read by both bases", hint="--data NAME,NAME")
        old, new = (_only(task, both) for task in tasks)
        text_bytes = np.array([_bytes_of(row) for row in old.rows], dtype=np.float64)
        trials.append(SkillTrial(skill.name, chosen, old, new, text_bytes))
    return trials


def _task(options: JudgeOptions, rows: list[Row], chosen: Chosen, base: Base, moving: Relocation) -> Task:
    """Only the base's context bounds the length of what is judged."""
    how = dataclasses.replace(moving.reading, max_seq_len=base.decoder.config.max_seq_len)
    return make_task(options, rows, chosen, base, how)


def _only(task: Task, numbers: Sequence[int]) -> Task:
    places = [task.numbers.index(number) for number in numbers]
    return dataclasses.replace(
        task,
        numbers=list(numbers),
        rows=[task.rows[place] for place in places],
        encoded=[task.encoded[place] for place in places],
    )


def _bytes_of(row: Row) -> int:
    """Bytes of the text that a row's loss is about: losses by token cannot be compared between tokenizers."""
    if "text" in row:
        return len(str(row["text"]).encode())
    if "completion" in row:
        return len(str(row["completion"]).encode())
    answers = (message["content"] for message in row["messages"] if message["role"] == "assistant")
    return max(1, sum(len(str(answer).encode()) for answer in answers))


def measure_untaught(moving: Relocation, trial: SkillTrial, store: Store) -> Measuring[dict[str, Side]]:
    """What the old base, the old stack and the new base do with a skill's rows. Raises ``NumericError``."""
    old, new = moving.old, moving.new
    subjects = (Subject(old, (), "old base", store), Subject(old, moving.worn, "old stack", store),
                Subject(new, (), "new base", store))  # fmt: skip
    sides: dict[str, Side] = {}
    for subject in subjects:
        task = trial.old if subject.base is old else trial.new
        sides[subject.word] = yield from measured(subject, task, trial.chosen, max_batch=moving.options.max_batch)
    return sides


def hold_trial(
    moving: Relocation, trial: SkillTrial, untaught: dict[str, Side], moved: Worn, store: Store
) -> Measuring[SkillResult]:
    """Put one skill before the student as well, and compare all four. Raises ``NumericError``."""
    student = Subject(moving.new, moved, "moved", store)
    side = yield from measured(student, trial.new, trial.chosen, max_batch=moving.options.max_batch)
    return judged(trial, {**untaught, student.word: side}, keep=moving.options.keep, seed=moving.options.seed)


def is_better_untaught(trial: SkillTrial, untaught: dict[str, Side], seed: int) -> bool:
    """Whether the new base alone is certainly better at the skill than the stack that would teach it."""
    stack, base = (_values(trial, untaught[word]) for word in ("old stack", "new base"))
    return _compared(trial, stack, base, seed).verdict == "better"


def judged(trial: SkillTrial, sides: dict[str, Side], *, keep: float, seed: int) -> SkillResult:
    """Retention, comparison, and whether the skill has passed.

    Passed is what keeps the share ``keep`` of the old gain; where the old stack had gained nothing, what is not worse
    than the old stack. A student that is worse at it than the new base alone has learned from a worse teacher, and
    passes nowhere.
    """
    values = {word: _values(trial, side) for word, side in sides.items()}
    weights = trial.text_bytes if trial.chosen.check.needs == "losses" else np.ones_like(trial.text_bytes)
    kept = retention(values["old base"], values["old stack"], values["moved"], weights, seed=seed)
    moved, beside_new = (_compared(trial, values[word], values["moved"], seed) for word in ("old stack", "new base"))
    enough = kept.value >= keep if kept.value is not None else moved.verdict != "worse"
    return SkillResult(trial, sides, values, kept, moved, beside_new, enough and beside_new.verdict != "worse")


def _values(trial: SkillTrial, side: Side) -> Floats:
    if trial.chosen.check.needs == "losses":
        return -np.array([row.nll for row in side.losses]) / trial.text_bytes
    return np.array(side.correct, dtype=np.float64)


def _compared(trial: SkillTrial, before: Floats, after: Floats, seed: int) -> Comparison:
    """Two subjects, row by row."""
    if trial.chosen.check.needs == "losses":
        weights = trial.text_bytes
        return compare_means(
            "held-out loss", NATS_PER_BYTE, -before, -after, weights, higher_is_better=False, seed=seed
        )
    return compare_shares("right answers", before > 0.5, after > 0.5, seed=seed)


def as_dict(result: SkillResult, keep: float, seed: int) -> dict[str, Any]:
    """The line of the retention table."""
    trial, by_loss = result.trial, result.trial.chosen.check.needs == "losses"
    levels = {}
    for word in SUBJECTS:
        values = result.values[word]
        level = bootstrap(-values, trial.text_bytes, seed=seed) if by_loss else wilson(int(values.sum()), values.size)
        levels[word.replace(" ", "_")] = level.as_dict()
    return {
        "skill": trial.skill,
        "check": trial.chosen.as_dict(),
        "unit": NATS_PER_BYTE if by_loss else SHARE,
        "rows": len(trial.old.rows),
        **levels,
        "difference": result.moved.as_dict(),
        "beside_new_base": result.beside_new.as_dict(),
        "kept": result.kept.as_dict(),
        "keep": keep,
        "passed": result.passed,
    }


def outcomes(result: SkillResult) -> list[dict[str, Any]]:
    """Every row: what was asked and expected, what the old stack and the moved one did."""
    found = []
    old, new = result.sides["old stack"], result.sides["moved"]
    for place, (number, row) in enumerate(zip(result.trial.old.numbers, result.trial.old.rows)):
        asked = question(row)
        found.append(
            {
                "skill": result.trial.skill,
                "row": number,
                "prompt": asked.prompt if asked is not None else str(row.get("text", "")),
                "expected": asked.expected if asked is not None else "",
                "old": old.texts[place],
                "moved": new.texts[place],
                "value": {word.replace(" ", "_"): float(result.values[word][place]) for word in SUBJECTS},
            }
        )
    return found
