"""What a move will take, from a short look at how fast either model reads and writes here."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from typing import Any

from nomoat.core.amounts import duration
from nomoat.core.records import Done, Note, Progress, Record
from nomoat.core.store import Store
from nomoat.data.encode import encode_row
from nomoat.data.rows import Row
from nomoat.engine.generate import Engine, Request
from nomoat.engine.names import Worn
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import score
from nomoat.judge.task import prompt_of
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.move.aside import home_aside
from nomoat.move.choice import held_out, trial_steps
from nomoat.move.lesson import rows_of
from nomoat.move.pupil import tune_options
from nomoat.move.relocation import Relocation
from nomoat.move.trial import SkillTrial
from nomoat.train.tune import tune

_LOOKED_AT = 16  # rows
_SPREAD = 0.35  # of reading and writing: other rows, longer answers, other programs
_LOOKS = 4  # reading and writing, with either model


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """Tokens a second: read in rows that are written already, written in answers that run together."""

    read: float
    write: float


def forecast(moving: Relocation, trials: Sequence[SkillTrial], store: Store) -> Generator[Record]:
    """Look, and say what the move would take; ends with ``Done("plan")``. Leaves nothing in the store."""
    budget_s = moving.options.probe_seconds / _LOOKS
    train, valid = rows_of(moving, "train"), rows_of(moving, "valid")
    yield Progress("measuring this machine", 0, None)
    old = _pace(moving, moving.old, moving.worn, train[:_LOOKED_AT], budget_s)
    new = _pace(moving, moving.new, (), train[:_LOOKED_AT], budget_s)
    plan: dict[str, Any] = yield from _training(moving, train, valid)
    answers_s = _answers_s(moving, [*train, *valid], old)
    judging_s = sum(_judging_s(trial, old, new) for trial in trials)
    spread = math.exp(_SPREAD)
    choice_s = _choice_s(moving, train, valid, plan, new) if moving.learn == "auto" else 0.0
    loose_s = answers_s + choice_s + judging_s
    result = {
        "answers_s": answers_s,
        "choice_s": choice_s,
        "training": plan,
        "judging_s": judging_s,
        "seconds": loose_s + plan["seconds"],
        "low_s": loose_s / spread + plan["low_s"],
        "high_s": loose_s * spread + plan["high_s"],
        "rows": len(train),
        "learn": moving.learn,
    }
    yield Note(
        f"prediction: {duration(result['seconds'])} in all ({duration(result['low_s'])} to "
        f"{duration(result['high_s'])}): {duration(answers_s)} for what the old stack says, "
        + (f"{duration(choice_s)} for a trial of two ways to learn it, " if choice_s else "")
        + f"{duration(plan['seconds'])} of training, {duration(judging_s)} for the judge"
    )
    yield Done("plan", None, result)


def _encoded(moving: Relocation, base: Base, rows: Sequence[Row]) -> list[Encoded]:
    how = moving.encoding(base)
    found = [encode_row(row, base.tokenizer, base.template, how, number=number) for number, row in enumerate(rows)]
    return [row for row in found if len(row.ids) <= how.max_seq_len and any(row.loss_mask[1:])]


def _pace(moving: Relocation, base: Base, worn: Worn, rows: Sequence[Row], budget_s: float) -> Pace:
    encoded = _encoded(moving, base, rows)
    read, began = 0, time.perf_counter()
    for row in encoded:
        score(base, [row], worn)
        read += len(row.ids)
        if time.perf_counter() - began > budget_s:
            break
    read_s = time.perf_counter() - began
    sampling = Sampling(max_tokens=max((sum(row.loss_mask) for row in encoded), default=1))
    asked = [Request(prompt_of(row), sampling, worn, deadline_s=budget_s) for row in encoded]
    asked = [request for request in asked if request.tokens][: moving.options.max_batch]
    began = time.perf_counter()
    written = sum(1 for _ in Engine(base, max_batch=moving.options.max_batch).stream(asked))
    write_s = time.perf_counter() - began
    return Pace(max(read, 1) / max(read_s, 1e-6), max(written, 1) / max(write_s, 1e-6))


def _answers_s(moving: Relocation, rows: Sequence[Row], pace: Pace) -> float:
    """Answers as long as the rows' own, and one reading of all of it where logits are learned."""
    encoded = _encoded(moving, moving.old, rows)
    written = sum(sum(row.loss_mask) for row in encoded) if moving.options.answers == "stack" else 0
    read = sum(len(row.ids) for row in encoded) if moving.learn != "words" else 0
    return written / pace.write + read / pace.read


def _choice_s(moving: Relocation, train: Sequence[Row], valid: Sequence[Row], plan: dict[str, Any], new: Pace) -> float:
    """Both short tunes at the pace of the long one, and the held-out rows once for each."""
    tokens = sum(len(row.ids) for row in held_out(moving, valid))
    step_s = float(plan["seconds"]) / int(plan["steps"])
    return 2 * (trial_steps(moving, len(train)) * step_s + tokens / new.read)


def _judging_s(trial: SkillTrial, old: Pace, new: Pace) -> float:
    """Each model twice, bare and with what it wears: losses of all rows, and answers where the check wants them."""
    seconds = 0.0
    for task, pace in ((trial.old, old), (trial.new, new)):
        rows = [part for parts in task.encoded for part in parts]
        read = sum(len(row.ids) for row in rows) * (1 + len(trial.chosen.choices))
        written = sum(sum(row.loss_mask) for row in rows) if trial.chosen.check.needs == "answers" else 0
        seconds += 2 * (read / pace.read + written / pace.write)
    return seconds


def _training(
    moving: Relocation, train: Sequence[Row], valid: Sequence[Row]
) -> Generator[Record, None, dict[str, Any]]:
    """The tune's own plan, on the rows' own answers, in a home that is gone afterwards."""
    plan: dict[str, Any] = {}
    with home_aside(moving.lesson, {"train": train, "valid": valid}) as aside:
        for record in tune(tune_options(moving, moving.lesson, base=str(moving.new.path), dry_run=True), aside):
            if isinstance(record, Done):
                plan = record.result
            else:
                yield record
    return plan
