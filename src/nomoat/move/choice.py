"""Whether a student with another tokenizer shall learn the old stack's words alone, or what it thought of them as well.

Two short tunes from one start, on the same rows in the same order, one each way. What either has learned is measured
on held-out rows with their own answers, which the gate does not use. Only what the rows can tell decides: where the
difference may be luck, the student learns words alone.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from nomoat.core.records import Note, Progress, Record, Step
from nomoat.data.encode import encode_row
from nomoat.data.pack import count_steps
from nomoat.data.rows import Row
from nomoat.engine.names import Worn
from nomoat.engine.score import PACK_TOKENS, score
from nomoat.formats.weights import Array
from nomoat.judge.verdict import MIN_PAIRS, Comparison, compare_means
from nomoat.model.adapters import Adapter
from nomoat.model.template import Encoded
from nomoat.move.pupil import tune_options
from nomoat.move.relocation import Choice, Relocation
from nomoat.move.thoughts import Thought, thoughts
from nomoat.train.distil import TEACHER_FILE, Teacher, write_targets
from nomoat.train.job import adapter_config
from nomoat.train.learner import Learner, LoopOptions
from nomoat.train.loop import apart, train_together
from nomoat.train.sft import SftBatches, sft_task

_SHARE = 0.1  # of the whole training's steps, each way
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
    if len(measured) >= MIN_PAIRS:
        few = rows[: steps * moving.options.batch_size]
        found = yield from thoughts(dataclasses.replace(moving, learn="aligned"), few)
    if not found:
        why = f"{len(measured)} held-out rows are too few" if len(measured) < MIN_PAIRS else "no row is read by both"
        choice = Choice("words", f"not tried: {why}, and words are the default", 0, None)
    else:
        pupils = yield from _taught(moving, found, steps)
        choice = chosen(_compared(moving, measured, pupils), steps)
    yield Note(f"learning its words{', aligned' if choice.learn == 'aligned' else ' alone'}, {choice.why}")
    return choice


def _taught(moving: Relocation, found: Sequence[Thought], steps: int) -> Generator[Record, None, dict[str, Adapter]]:
    """A student each way, from the same start."""
    wanted, base = tune_options(moving, moving.lesson), moving.new
    rows = [one.student for one in found]
    names = [f"row {one.number + 1} of the trial" for one in found]
    batches = SftBatches(rows, names, batch_size=wanted.batch_size, pack_tokens=PACK_TOKENS, seed=wanted.seed)
    config = adapter_config(wanted, base.decoder.config.n_layers)
    pupils = {way: base.new_adapter(config, seed=wanted.seed, name=way) for way in ("words", "aligned")}
    with tempfile.TemporaryDirectory(prefix="nomoat-choice-") as folder:
        write_targets(Path(folder) / TEACHER_FILE, rows, (one.target for one in found))
        teacher = Teacher(Path(folder), base.decoder.config.vocab_size)
    loop = LoopOptions(steps, wanted.lr, wanted.schedule, wanted.warmup, wanted.weight_decay, clip=wanted.clip)
    ratio = wanted.lora_plus_ratio
    learners = [
        Learner(sft_task(base, pupils["words"], batches, (), ratio), loop),
        Learner(sft_task(base, pupils["aligned"], batches, (), ratio, targets=teacher), loop),
    ]
    done = 0
    for record in train_together(learners, apart):
        if isinstance(record, Step):
            done += 1
            yield Progress("trying two ways to learn", done, 2 * steps, "steps")
    return pupils


def _compared(moving: Relocation, rows: Sequence[Encoded], pupils: dict[str, Adapter]) -> Comparison:
    """Held-out loss of the student that learned what the stack thought, against that of words alone."""

    def losses(worn: Worn) -> Array:
        return np.array([-one.total for one in score(moving.new, rows, worn)]) / tokens

    tokens = np.array([sum(row.loss_mask[1:]) for row in rows], dtype=np.float64)
    words, aligned = (losses(((pupils[way], 1.0),)) for way in ("words", "aligned"))
    seed = moving.options.seed
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
