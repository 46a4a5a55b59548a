"""``move``: a stack to another base, as a generator of records."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

from nomoat.core.errors import Interrupted
from nomoat.core.records import Done, Note, Record, Saved
from nomoat.core.store import Store
from nomoat.judge.side import Side
from nomoat.move.forecast import forecast
from nomoat.move.lesson import write_lesson
from nomoat.move.options import MoveOptions, check
from nomoat.move.pupil import train_pupil, tune_options
from nomoat.move.relocation import Relocation, open_relocation
from nomoat.move.settle import save_result, settle
from nomoat.move.trial import (
    SkillTrial,
    as_dict,
    hold_trial,
    is_better_untaught,
    measure_untaught,
    outcomes,
    prepare_trials,
)
from nomoat.train.beginning import refuse_taken_name
from nomoat.train.options import check as check_tune


def move(options: MoveOptions, store: Store) -> Generator[Record]:
    """Take a stack's skills to another base; ends with ``Done("move")``: the retention table and ``passed``.

    The old stack answers, a new adapter learns that, and every skill is judged on rows that neither learned. Where one
    keeps less than ``keep`` of its gain, the adapter stays apart as ``<name>-unproven``. The old stack is only read.
    The same call goes on with a move that was stopped. With ``dry_run`` it ends with ``Done("plan")``.
    Raises ``UsageError``, ``NotFound``, ``DataError``, ``ResourceError``, ``NumericError``, ``StorageError``,
    ``Interrupted``.
    """
    check(options)
    try:
        yield from _move(options, store)
    except (Interrupted, KeyboardInterrupt) as stop:
        hint = "" if options.dry_run else "the same nomoat move goes on with it"
        raise Interrupted("stopped by you", hint=hint) from stop


def _move(options: MoveOptions, store: Store) -> Generator[Record]:
    moving = yield from open_relocation(options, store)
    check_tune(tune_options(moving, moving.lesson, dry_run=options.dry_run))
    if not options.dry_run:
        refuse_taken_name(moving.name, store, replace=options.replace)
    trials = prepare_trials(moving, store)
    for trial in trials:
        name = trial.chosen.check.name
        yield Note(f"{trial.skill}: {len(trial.old.rows)} held-out rows, check {name}, because {trial.chosen.why}")
    if options.dry_run:
        yield from forecast(moving, trials, store)
        return
    if moving.lesson not in store.names("data"):
        refuse_taken_name(moving.unproven, store, replace=options.replace)
    untaught = yield from _measured_untaught(moving, trials, store)
    moving = yield from write_lesson(moving, store)
    yield from train_pupil(moving, store)
    yield from _judge(moving, trials, untaught, store)


def _measured_untaught(
    moving: Relocation, trials: list[SkillTrial], store: Store
) -> Generator[Record, None, list[dict[str, Side]]]:
    """The three that need no lesson, before it begins: who would learn from a worse teacher is told in time."""
    found = []
    for trial in trials:
        found.append((yield from measure_untaught(moving, trial, store)))
        if is_better_untaught(trial, found[-1], moving.options.seed):
            yield Note(
                f"{trial.skill}: {moving.new.name} alone is better at it than {moving.options.stack}; a student that "
                "ends below its own base does not pass, so leave out the adapter that learned it",
                warning=True,
            )
    return found


def _judge(
    moving: Relocation, trials: list[SkillTrial], untaught: list[dict[str, Side]], store: Store
) -> Generator[Record]:
    """Hold the trials, and give the student its name if it has passed them all."""
    options = moving.options
    student = moving.new.load_adapter(store.find("adapters", moving.unproven))
    table: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for trial, sides in zip(trials, untaught):
        result = yield from hold_trial(moving, trial, sides, ((student, 1.0),), store)
        table.append(as_dict(result, options.keep, options.seed))
        rows += outcomes(result)
        yield Note(_sentence(table[-1]), warning=not result.passed)
    passed = all(line["passed"] for line in table)
    adapter = settle(moving, student, table, store)
    yield Saved(adapter, "adapter" if passed else "adapter, apart")
    facts = {
        "name": adapter.name,
        "stack": options.stack,
        "base": moving.new.name,
        "learned": moving.learn,
        "choice": None if moving.choice is None else dataclasses.asdict(moving.choice),
        "keep": options.keep,
        "passed": passed,
        "skills": table,
    }
    path = save_result(moving, {**facts, "outcomes": rows}, store)
    yield Saved(path, "trial")
    yield Done("move", adapter, {**facts, "trial": str(path)})


def _sentence(line: dict[str, Any]) -> str:
    kept, word = line["kept"], "passed" if line["passed"] else "not passed"
    if line["beside_new_base"]["verdict"] == "worse":
        return f"{line['skill']}: {word}: the new base alone is better at it than with what was learned"
    if kept["value"] is None:
        return f"{line['skill']}: {word}: the old stack had gained nothing there, and the moved one is compared with it"
    text = f"{line['skill']}: {word}: {kept['value']:.1%} of the old gain is kept, {line['keep']:.0%} are asked for"
    if kept["low"] is None:
        return f"{text}; too few rows ({line['rows']}) to be sure that there was a gain"
    return f"{text} (95 % interval {kept['low']:.1%} to {kept['high']:.1%})"
