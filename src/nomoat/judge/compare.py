"""``judge``: a base before, and wearing a stack after, on the same held-out rows."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.amounts import counted
from nomoat.core.errors import UsageError
from nomoat.core.files import write_json
from nomoat.core.records import Done, Note, Record, Sample, Saved
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.engine.names import Worn, missing_under, open_stack
from nomoat.judge.forgetting import general, guard
from nomoat.judge.measure import RowLoss, Subject
from nomoat.judge.options import JudgeOptions
from nomoat.judge.questions import question
from nomoat.judge.side import Side, measured
from nomoat.judge.task import Chosen, HeldOut, Task, choose, data_of, encoding_of, held_out, make_task
from nomoat.judge.verdict import NATS, Comparison, compare_means, compare_shares
from nomoat.model.load import Base

RESULT_FILE = "result.json"
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def judge(options: JudgeOptions, store: Store) -> Generator[Record]:
    """Compare before and after; the last record is ``Done`` with the whole result, every row's outcome included.

    Yields notes and progress, a ``Sample`` per row, and ``Saved`` for the folder ``runs/judge-...`` that keeps the
    result. Closing the generator stops; what was measured of the bare base is kept for the next time.
    Raises ``UsageError``, ``NotFound``, ``DataError``, ``AdapterMismatch``, ``NumericError``, ``StorageError``.
    """
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    base, worn = open_stack(store, options.model)
    if not worn:
        raise UsageError(
            f"{options.model!r} wears no adapter: there is no after to compare with the before",
            hint=f"nomoat judge {options.model}+ADAPTER",
        )
    if missing := missing_under(store, options.model):
        yield Note(missing, warning=True)
    rows = held_out(store, options.data or data_of(store, worn), options.limit)
    chosen = choose(options, rows.rows)
    yield Note(f"check {chosen.check.name}, because {chosen.why}: {chosen.check.summary}")
    task = make_task(options, rows.rows, chosen, base, encoding_of(store, base, worn))
    yield from _warnings(rows, task)
    before, after = Subject(base, (), "before", store), Subject(base, worn, "after", store)
    was = yield from measured(before, task, chosen, max_batch=options.max_batch)
    now = yield from measured(after, task, chosen, max_batch=options.max_batch)
    outcomes = _outcomes(task, was, now)
    result = {
        **_account(options, rows, chosen, task, base, worn),
        **_compared(chosen, was, now, options.seed),
        "outcomes": outcomes,
        "failures": [outcome["row"] for outcome in outcomes if outcome["correct_after"] is False],
        "forgetting": (yield from guard(before, after, seed=options.seed)) if options.forgetting else None,
        "seconds": time.perf_counter() - wall_s,
        "cpu_seconds": time.process_time() - cpu_s,
    }
    for outcome in outcomes:
        yield _sample(outcome)
    path = _save(store, result, options)
    yield Saved(path, "judgement")
    yield Done("judge", path, result)


def before(options: JudgeOptions, base_name: str, store: Store) -> Iterator[Record]:
    """Measure the bare base on the rows of a later ``judge`` with the same options, which then finds it kept.

    Ends with ``Done``: the check and the seconds, so that the time of the other half is known before the tune.
    """
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    base, _ = open_stack(store, base_name)
    rows = held_out(store, options.data, options.limit)
    chosen = choose(options, rows.rows)
    yield Note(f"check {chosen.check.name}, because {chosen.why}: {chosen.check.summary}")
    task = make_task(options, rows.rows, chosen, base, encoding_of(store, base, ()))
    subject = Subject(base, (), "before", store)
    side = yield from measured(subject, task, chosen, max_batch=options.max_batch)
    if options.forgetting:
        yield from general(subject)
    seconds = {"seconds": time.perf_counter() - wall_s, "cpu_seconds": time.process_time() - cpu_s}
    result = {"check": chosen.as_dict(), "rows": len(task.rows), **seconds}
    if side.correct:
        yield Note(f"before: {sum(side.correct)} of {len(side.correct)} held-out answers are right")
    yield Done("before", None, result)


def _warnings(rows: HeldOut, task: Task) -> Iterator[Note]:
    if rows.split == "all":
        yield Note(f"every row of {rows.name} is judged: fair only if training never saw them", warning=True)
    for reason, count in task.skipped.items():
        yield Note(f"not judged: {count} of {counted(len(rows.rows), 'row')}: {reason}", warning=True)


def _compared(chosen: Chosen, was: Side, now: Side, seed: int) -> dict[str, Any]:
    """Verdict, comparisons and counts."""
    loss = _compare_losses(was.losses, now.losses, seed)
    values: dict[str, Any] = {"loss": loss.as_dict(), "answers": None, "counts": None}
    headline, compared = "loss", loss
    if chosen.check.needs != "losses":
        before, after = np.array(was.correct, dtype=np.bool_), np.array(now.correct, dtype=np.bool_)
        headline, compared = "answers", compare_shares("right answers", before, after, seed=seed)
        values["answers"] = compared.as_dict()
        values["counts"] = {
            "fixed": int(np.sum(after & ~before)),
            "broken": int(np.sum(before & ~after)),
            "both_right": int(np.sum(before & after)),
            "both_wrong": int(np.sum(~before & ~after)),
        }
    return {"verdict": compared.verdict, "headline": headline, **values}


def _compare_losses(was: list[RowLoss], now: list[RowLoss], seed: int) -> Comparison:
    """Loss per token, each row weighing as many tokens as it has: the held-out loss of training."""
    tokens = np.array([row.tokens for row in was], dtype=np.float64)
    before, after = (np.array([row.nll for row in side]) / tokens for side in (was, now))
    return compare_means("held-out loss", NATS, before, after, tokens, higher_is_better=False, seed=seed)


def _outcomes(task: Task, was: Side, now: Side) -> list[dict[str, Any]]:
    outcomes = []
    for place, (number, row) in enumerate(zip(task.numbers, task.rows)):
        asked = question(row)
        outcomes.append(
            {
                "row": number,
                "prompt": asked.prompt if asked is not None else str(row.get("text", "")),
                "expected": asked.expected if asked is not None else "",
                "before": was.texts[place],
                "after": now.texts[place],
                "correct_before": was.correct[place] if was.correct else None,
                "correct_after": now.correct[place] if now.correct else None,
                "loss_before": was.losses[place].nll / was.losses[place].tokens,
                "loss_after": now.losses[place].nll / now.losses[place].tokens,
                "tokens": was.losses[place].tokens,
            }
        )
    return outcomes


def _sample(outcome: dict[str, Any]) -> Sample:
    return Sample(
        prompt=outcome["prompt"],
        expected=outcome["expected"],
        before=outcome["before"],
        after=outcome["after"],
        correct_before=outcome["correct_before"],
        correct_after=outcome["correct_after"],
    )


def _account(
    options: JudgeOptions, rows: HeldOut, chosen: Chosen, task: Task, base: Base, worn: Worn
) -> dict[str, Any]:
    """What was compared, on what, and how."""
    return {
        "model": options.model,
        "base": base.name,
        "stack": [{"adapter": adapter.name, "weight": weight} for adapter, weight in worn],
        "data": rows.name,
        "split": rows.split,
        "rows": len(task.rows),
        "skipped": [{"reason": reason, "count": count} for reason, count in task.skipped.items()],
        "check": chosen.as_dict(),
        "sampling": {"temperature": 0.0, "max_tokens": task.max_tokens} if chosen.check.needs == "answers" else None,
    }


def _save(store: Store, result: dict[str, Any], options: JudgeOptions) -> Path:
    """Write ``runs/judge-<model>-<data>``; a later judgement of the same pair takes its place."""
    words = [_ODD.sub("-", word).strip("-.") for word in (options.model, result["data"])]
    name = "-".join(["judge", *words])[:100].rstrip("-.")
    lineage = Lineage(
        kind="run",
        name=name,
        parents=tuple(Parent("adapter", worn["adapter"], "") for worn in result["stack"]),
        options=dataclasses.asdict(options),
        metrics={key: result[key] for key in ("verdict", "headline", "rows", "counts")},
        seed=options.seed,
    )
    with store.writing("runs", name, replace=True) as folder:
        write_json(folder / RESULT_FILE, result)
        write_lineage(folder, lineage)
    return store.path("runs", name)
