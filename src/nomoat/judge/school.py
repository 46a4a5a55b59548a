"""``school``: labelled pairs or the user's votes tune a judge, which takes the same exam before and after.

The judge is an adapter that says which of two answers is better, or a reward model that gives each a number; before, it
is the untaught model, asked in words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from nomoat.core.amounts import counted
from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Note, Record, Saved
from nomoat.core.store import Store
from nomoat.data.preferences import Preference
from nomoat.engine.names import open_stack
from nomoat.engine.reward import reward_adapter
from nomoat.judge.exam import Exam, exam
from nomoat.judge.examine import readable
from nomoat.judge.examinee import Examinee, local
from nomoat.judge.lessons import lessons_of, read_pairs, write_lessons
from nomoat.judge.measure import Measuring, Subject
from nomoat.judge.pairwise import Pair, verdicts
from nomoat.judge.verdict import Comparison, compare_shares
from nomoat.judge.verdict_options import SchoolOptions
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune


def school(options: SchoolOptions, store: Store) -> Generator[Record]:
    """Examine, tune, examine again; the last record is ``Done`` with both exams and what changed between them.

    Raises what ``tune`` raises, and ``DataError`` for too few pairs.
    """
    base, worn = open_stack(store, options.judge)
    if reward_adapter(worn) is not None:
        raise UsageError(f"{options.judge} is a reward model already", hint="teach its base, under another --name")
    lessons = lessons_of(
        read_pairs(store, options.pairs),
        test=options.held_out,
        seed=options.seed,
        attacks=options.attacks,
        balance=options.balance,
    )
    if lessons.left_out:
        left_out = counted(lessons.left_out, "pair")
        yield Note(f"not learned: {left_out}; with them the longer answer would be the better one")
    before = local(Subject(base, worn, "before", store))
    asked = readable(lessons.examined, before.reads, options.exam_limit)[0]
    was, points_before = yield from _sat(before, asked, options.seed)
    data = f"{options.name}-pairs"
    folder = write_lessons(store, data, lessons, options.pairs, dataclasses.asdict(options), replace=options.replace)
    yield Saved(folder, "data set")
    yield from _tuned(options, data, store, is_base=not worn)
    named = f"{options.judge}+{options.name}"
    base, worn = open_stack(store, named)
    now, points_after = yield from _sat(local(Subject(base, worn, "after", store)), asked, options.seed)
    compared = _compared(points_before, points_after, options.seed)
    yield Done("school", store.path("adapters", options.name), _result(named, was, now, compared, len(asked), folder))


def _sat(judge: Examinee, asked: Sequence[Preference], seed: int) -> Measuring[tuple[Exam, list[float]]]:
    """The exam, and for every pair the points that its better answer got."""
    made = judge.make("likelihood")
    found = yield from exam(made, asked, seed=seed, familiar=judge.familiar)
    told = yield from verdicts(made, _pairs(asked))
    return found, [each.points for each in told]


def _result(judge: str, was: Exam, now: Exam, compared: Comparison, pairs: int, folder: Any) -> dict[str, Any]:
    """Both exams and the paired difference on the same pairs; how to sit the exam again."""
    return {
        "judge": judge,
        "pairs": pairs,
        "before": was.as_dict(),
        "after": now.as_dict(),
        "agreement": compared.as_dict(),
        "again": f"nomoat exam {judge} {folder / 'exam.jsonl'}",
    }


def _tuned(options: SchoolOptions, data: str, store: Store, *, is_base: bool) -> Generator[Record]:
    """The one training loop, on the rows of the lessons; its ``Done`` is not passed on."""
    alone = options.kind == "reward-head"
    how = TuneOptions(
        data=data,
        method="sft" if options.kind == "adapter" else options.kind,
        base=options.judge if is_base else "",
        on="" if is_base else options.judge,
        name=options.name,
        replace=options.replace,
        rank=1 if alone else options.rank,
        target_modules=("o_proj",) if alone else ("all-linear",),  # a folder of PEFT's holds some LoRA; it stays zero
        top_layers=1 if alone and is_base else 0,
        lr=options.lr,
        epochs=options.epochs,
        max_steps=options.max_steps,
        batch_size=options.batch_size,
        max_seq_len=options.max_seq_len,
        precision=options.precision,
        threads=options.threads,
        probe_seconds=options.probe_seconds,
        seed=options.seed,
    )
    for record in tune(how, store):
        if not isinstance(record, Done):
            yield record


def _pairs(labelled: Sequence[Preference]) -> list[Pair]:
    return [Pair(each.messages, each.chosen, each.rejected) for each in labelled]


def _compared(before: Sequence[float], after: Sequence[float], seed: int) -> Comparison:
    """Pairs judged right in both orders, before and after, on the same pairs."""
    right = [np.array([points == 1 for points in side], dtype=np.bool_) for side in (before, after)]
    return compare_shares("pairs judged right in both orders", right[0], right[1], seed=seed)
