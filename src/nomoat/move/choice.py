"""Whether a student with another tokenizer shall learn the old stack's words alone, or what it thought of them as well.

Two short tunes from one start, on the same rows in the same order, one each way. What either has learned is measured
on held-out rows with their own answers, which the gate does not use. Only what the rows can tell decides: where the
difference may be luck, the student learns words alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from datetime import datetime

import numpy as np

from nomoat.core.records import Note, Progress, Record, Step, quietly
from nomoat.core.store import Store
from nomoat.data.encode import encode_row
from nomoat.data.pack import count_steps
from nomoat.data.rows import Row
from nomoat.engine.score import score
from nomoat.formats.weights import Array
from nomoat.judge.verdict import MIN_PAIRS, Comparison, compare_means
from nomoat.model.template import Encoded
from nomoat.move.aside import home_aside
from nomoat.move.pupil import tune_options
from nomoat.move.relocation import Choice, Relocation
from nomoat.move.thoughts import Thought, thoughts
from nomoat.train.beginning import run_record
from nomoat.train.distil import TEACHER_FILE, write_targets
from nomoat.train.forecast import predict
from nomoat.train.job import Job, prepare
from nomoat.train.learner import Learner
from nomoat.train.loop import apart, train_together
from nomoat.train.precision import choose_arithmetic
from nomoat.train.session import loop_options
from nomoat.train.setting import training_setting

_SHARE = 0.1  # of the whole training's steps, each way, and of the time that it may look at this machine
_FEWEST_STEPS, _MOST_STEPS = 8, 32
_MOST_HELD_OUT = 64  # rows
_UNIT = "nats a token"


def trial_steps(moving: Relocation, rows: int) -> int:
    """Steps of each of the two tunes, where ``rows`` are learned in the end."""
    options = moving.options
    whole = options.max_steps or count_steps(rows, batch_size=options.batch_size, epochs=options.epochs)
    return min(whole, _MOST_STEPS, max(_FEWEST_STEPS, round(_SHARE * whole)))


def held_out(moving: Relocation, rows: Sequence[Row]) -> list[Encoded]:
    """The first of the validation ``rows`` as the new base reads them, those that fit."""
    base, how = moving.new, moving.encoding(moving.new)
    read = [
        encode_row(row, base.tokenizer, base.template, how, number=number)
        for number, row in enumerate(rows[:_MOST_HELD_OUT])
    ]
    return [row for row in read if len(row.ids) <= how.max_seq_len and any(row.loss_mask[1:])]


def choose(moving: Relocation, rows: Sequence[Row], valid: Sequence[Row]) -> Generator[Record, None, Choice]:
    """Try both ways on the first of ``rows``, which have the old stack's answers, and judge by ``valid``."""
    measured, steps = held_out(moving, valid), trial_steps(moving, len(rows))
    found: list[Thought] = []
    few = rows[: steps * moving.options.batch_size]
    if len(measured) >= MIN_PAIRS:
        found = yield from thoughts(dataclasses.replace(moving, learn="aligned"), few)
    if not found:
        why = f"{len(measured)} held-out rows are too few" if len(measured) < MIN_PAIRS else "no row is read by both"
        choice = Choice("words", f"not tried: {why}, and words are the default", 0, None)
    else:
        losses = yield from _losses(moving, [few[one.number] for one in found], found, measured, steps)
        choice = chosen(_compared(losses, measured, moving.options.seed), steps)
    yield Note(f"learning its words{', aligned' if choice.learn == 'aligned' else ' alone'}, {choice.why}")
    return choice


def _losses(
    moving: Relocation, rows: Sequence[Row], found: Sequence[Thought], measured: Sequence[Encoded], steps: int
) -> Generator[Record, None, dict[str, Array]]:
    """By the way it learned, what a student loses on each of the ``measured`` rows, in nats of the whole row."""
    with home_aside(moving.lesson, {"train": rows}) as aside, training_setting(moving.options.threads) as threads:
        targets = aside.path("data", moving.lesson) / TEACHER_FILE
        write_targets(targets, [one.student for one in found], (one.target for one in found))
        jobs = yield from _jobs(moving, steps, aside)
        yield from _train(jobs, aside, threads)
        return {
            way: np.array([-row.total for row in score(job.base, measured, ((job.adapter, 1.0),))])
            for way, job in jobs.items()
        }


def _jobs(moving: Relocation, steps: int, aside: Store) -> Generator[Record, None, dict[str, Job]]:
    """The student's own tune, cut to ``steps``: one of words, and one of what the old stack thought."""
    cut = {"max_steps": steps, "eval_rows": 0, "probe_seconds": _SHARE * moving.options.probe_seconds}
    wanted = tune_options(moving, moving.lesson, base=str(moving.new.path), **cut)
    words = yield from quietly(prepare(wanted, aside))
    aligned = yield from quietly(prepare(dataclasses.replace(wanted, distil=True), aside, words))
    return {"words": words, "aligned": aligned}


def _train(jobs: dict[str, Job], aside: Store, threads: int) -> Generator[Record]:
    """Both tunes, a step each in turn, in the arithmetic and the memory that the student will learn in."""
    job = jobs["aligned"]  # the one that takes more memory
    began = datetime.now()
    arithmetic = yield from quietly(choose_arithmetic(job))
    plan = (yield from quietly(predict([job], aside, began))) if job.options.probe_seconds else None
    settled = run_record(job, plan, job.steps, threads, arithmetic).settled
    job.base.decoder.choose_recompute(settled.recompute)
    learners = [
        Learner(each.task(each.batches(settled.pack_tokens)), loop_options(each.options, settled))
        for each in jobs.values()
    ]
    done = 0
    for record in train_together(learners, apart):
        if isinstance(record, Step):
            done += 1
            yield Progress("trying two ways to learn", done, len(learners) * settled.steps, "steps")


def _compared(losses: dict[str, Array], rows: Sequence[Encoded], seed: int) -> Comparison:
    """Held-out loss of the student that learned what the stack thought, against that of words alone."""
    tokens = np.array([sum(row.loss_mask[1:]) for row in rows], dtype=np.float64)
    words, aligned = losses["words"] / tokens, losses["aligned"] / tokens
    return compare_means("held-out loss", _UNIT, words, aligned, tokens, higher_is_better=False, seed=seed)


def chosen(result: Comparison, steps: int) -> Choice:
    """What the figures of a trial of ``steps`` each way decide."""
    gap = result.difference
    figures = (
        f"held-out loss {result.before.value:.4f} with words alone and {result.after.value:.4f} aligned, difference "
        f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}), after {steps} steps each, {result.rows} rows"
    )
    if result.verdict == "cannot tell":
        return Choice("words", f"the default, for a trial cannot tell: {figures}", steps, result.as_dict())
    way = "aligned" if result.verdict == "better" else "words"
    return Choice(way, f"chosen by a trial: {figures}", steps, result.as_dict())
