"""``judge --tasks``: tasks of lm-evaluation-harness on our engine, two models paired on the same rows."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.records import Done, Note, Progress, Record
from nomoat.core.store import Store
from nomoat.engine.names import Worn, open_stack
from nomoat.judge.options import TaskOptions
from nomoat.judge.planner import plan_rows
from nomoat.judge.statistics import CONFIDENCE, Floats, bootstrap, holm, sign_test, wilson
from nomoat.judge.verdict import SHARE, compare_means, compare_shares
from nomoat.model.load import Base

EXTRA: Final = "pip install 'nomoat[tasks]'"
_CACHE: Final = "cache/tasks"


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one task over its rows. ``weights`` are words or bytes where the metric is a rate per such."""

    task: str
    metric: str
    higher_is_better: bool
    rows: tuple[str, ...]
    values: Floats
    weights: Floats | None = None

    @property
    def is_share(self) -> bool:
        return self.weights is None and bool(np.isin(self.values, (0.0, 1.0)).all())

    def interval(self, seed: int) -> dict[str, float]:
        """The mean over the rows."""
        if self.is_share:
            return wilson(int(self.values.sum()), self.values.size).as_dict()
        return bootstrap(self.values, self.weights, seed=seed).as_dict()


def run_tasks(options: TaskOptions, store: Store) -> Generator[Record]:
    """Run every task on one model or on two; the last record is ``Done`` with a line for every metric.

    Raises ``UsageError`` naming the extra where the harness is not installed, ``NotFound`` for a task or its data.
    """
    _check(options)
    base, worn = open_stack(store, options.model)
    mine = yield from _measure(options, store, base, worn, options.model)
    other: list[Measured] = []
    versus = options.against or (base.name if worn else "")
    if versus:
        their_base, their_worn = open_stack(store, options.against) if options.against else (base, ())
        other = yield from _measure(options, store, their_base, their_worn, versus)
    lines = [_line(each, other, options.seed) for each in mine]
    yield from _several(lines)
    yield Done("tasks", None, {"model": options.model, "against": versus, "lines": lines})


def _check(options: TaskOptions) -> None:
    for package in ("lm_eval", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"--tasks needs {package}, which is not installed", hint=EXTRA)
    if not options.data_dir:
        raise UsageError("--data-dir is missing", hint="a folder with the tasks' data: nothing is downloaded")
    if not Path(options.data_dir).expanduser().is_dir():
        raise NotFound(f"{options.data_dir}: no such folder", hint="--data-dir FOLDER")
    if options.limit < 0 or (options.fewshot is not None and options.fewshot < 0):
        raise UsageError("--limit and --fewshot cannot be negative")


def _measure(
    options: TaskOptions, store: Store, base: Base, worn: Worn, name: str
) -> Generator[Record, None, list[Measured]]:
    """All tasks on one model, one after the other."""
    from lm_eval import evaluator

    from nomoat.judge.harness import EngineLM

    model = EngineLM(base, worn, max_batch=options.max_batch)
    found: list[Measured] = []
    for done, task in enumerate(options.tasks):
        yield Progress(f"tasks, {name}", done, len(options.tasks), "tasks")
        loaded = _loaded(task, options, store)
        try:
            result = evaluator.evaluate(
                lm=model,
                task_dict=loaded,
                limit=options.limit or None,
                bootstrap_iters=0,
                apply_chat_template=options.chat,
            )
        except ValueError as error:  # code that would be run, images: what the harness refuses, it refuses so
            raise UsageError(f"task {task}: {error}") from error
        for each, samples in result["samples"].items():
            found += _metrics(each, samples, loaded["tasks"][each].higher_is_better())
    return found


def _loaded(task: str, options: TaskOptions, store: Store) -> dict[str, Any]:
    """The tasks behind a name, with their data."""
    from lm_eval.tasks import TaskManager

    from nomoat.judge.offline import reading_from

    folder = Path(options.data_dir).expanduser().absolute()
    own = TaskManager(include_path=str(folder), include_defaults=False)
    manager = own if task in own.all_tasks else TaskManager(include_path=str(folder))
    if task not in manager.all_tasks:
        raise NotFound(f"no task {task!r}", hint="lm-eval ls tasks, or a .yaml file of your own in --data-dir")
    with reading_from(folder, store.home / _CACHE):
        try:
            loaded: dict[str, Any] = manager.load([task])
        except KeyError as error:
            raise NotFound(f"task {task}: its data has no split {error}", hint=f"add the split in {folder}") from error
    for each in loaded["tasks"].values():
        if options.fewshot is not None and each.get_config("num_fewshot") != 0:
            each.set_config(key="num_fewshot", value=options.fewshot)
        elif each.get_config("num_fewshot") is None:
            each.set_config(key="num_fewshot", value=0)
        each.set_fewshot_seed(seed=options.seed)
    return loaded


def _metrics(task: str, samples: Sequence[Mapping[str, Any]], higher: Mapping[str, bool]) -> list[Measured]:
    """The rows' values by metric and filter. A pair of log-likelihood and length is a loss per word or byte."""
    groups: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            groups.setdefault((metric, sample["filter"]), []).append((sample["doc_hash"], sample[metric]))
    found = []
    for (metric, kept), rows in groups.items():
        name = metric if kept == "none" else f"{metric} ({kept})"
        hashes, values = tuple(row for row, _ in rows), [value for _, value in rows]
        if all(isinstance(value, (bool, int, float, np.number)) for value in values):
            numbers = np.array(values, dtype=np.float64)
            found.append(Measured(task, name, bool(higher.get(metric, True)), hashes, numbers))
        elif all(isinstance(value, tuple) and len(value) == 2 for value in values):
            totals, lengths = np.array(values, dtype=np.float64).T
            found.append(Measured(task, f"log {name}", False, hashes, -totals / lengths, lengths))
    return found


def _line(mine: Measured, other: Sequence[Measured], seed: int) -> dict[str, Any]:
    """One metric: both sides, and the paired difference where the rows are the same."""
    line = {"task": mine.task, "metric": mine.metric, "rows": mine.values.size, "value": mine.interval(seed)}
    same = next((each for each in other if (each.task, each.metric) == (mine.task, mine.metric)), None)
    if same is None:
        return {**line, "comparison": None, "p_value": None, "plan": None}
    if same.rows != mine.rows:
        raise UsageError(f"{mine.task}: the two models were not asked the same rows")
    up, down = int(np.sum(mine.values > same.values)), int(np.sum(mine.values < same.values))
    plan = None
    if mine.is_share and same.is_share:
        before, after = same.values == 1, mine.values == 1
        compared = compare_shares(mine.metric, before, after, seed=seed)
        planned = plan_rows(mine.values.size, (up + down) / mine.values.size)
        plan = {**dataclasses.asdict(planned), "sentence": planned.sentence}
    else:
        compared = compare_means(
            mine.metric,
            SHARE if mine.weights is None else "nats",
            same.values,
            mine.values,
            mine.weights,
            higher_is_better=mine.higher_is_better,
            seed=seed,
        )
    return {**line, "comparison": compared.as_dict(), "p_value": sign_test(up, down), "plan": plan}


def _several(lines: Sequence[dict[str, Any]]) -> Iterator[Note]:
    """Adjust for the number of comparisons, and say what chance alone would do with so many."""
    compared = [line for line in lines if line["comparison"] is not None]
    adjusted = holm([line["p_value"] for line in compared])
    for line, p_value in zip(compared, adjusted):
        line["adjusted_p"] = p_value
    if len(compared) > 1:
        called = sum(line["comparison"]["verdict"] != "cannot tell" for line in compared)
        stand = sum(p_value < 1 - CONFIDENCE for p_value in adjusted)
        chance = 1 - CONFIDENCE ** len(compared)
        yield Note(
            f"{len(compared)} comparisons: chance alone would call one of them different in {chance:.0%} of such runs; "
            f"of {called} called here {stand} stand after Holm's correction",
            warning=called > stand,
        )
