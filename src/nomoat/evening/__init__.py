"""The main job: a base and your examples to a measurably better model, with a receipt.

base -> rows -> what the base can do before -> tune -> what it can do after -> receipt

Each stage is a generator of records that another room owns; this file is their order, and what one hands the next.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Generator, Iterator
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.options import option
from nomoat.core.records import Done, Eval, Note, Record, Saved, Step
from nomoat.core.store import Store, read_lineage

BUILTIN = "text-to-sql"
BUILTIN_LICENCE = "MIT AND BSD-3-Clause"
BUILTIN_BASE = "smollm2-135m-instruct"
RECEIPT_FILE = "receipt.html"
_JUDGING_SHARE = 1.3  # the second measurement takes about as long as the first, answers may be longer


@dataclasses.dataclass(frozen=True, slots=True)
class EveningOptions:
    """The few things an evening asks for; every other setting of a tune keeps its default or fits the time."""

    rows: str = option("", "your examples: a file, a folder, or a data set's name; the built-in example if empty")
    base: str = option(BUILTIN_BASE, "the base: a name of the catalogue, a GGUF file or a Hugging Face folder")
    name: str = option("", "name of the adapter [made from the rows' name]")
    minutes: float | None = option(None, "be done in this time")
    finish_by: str | None = option(None, "be done at this time of day", metavar="HH:MM")
    epochs: float = option(1.0, "passes over the rows, time permitting")
    rank: int = option(16, "rank of the adapter")
    lr: float = option(5e-4, "peak learning rate")
    memory: str | None = option(None, "keep the process under this much memory", metavar="4G")
    precision: str = option("float32", "arithmetic of the frozen matrices in training", choices=("float32", "int8"))
    threads: int = option(0, "processor threads; 0: all cores")
    check: str = option("auto", "how answers are checked; see nomoat judge --help")
    limit: int = option(0, "judge at most this many held-out rows; 0: all", metavar="N")
    forgetting: bool = option(True, "also measure what was forgotten")
    seed: int = option(0, "order of the rows, start of the adapter, the bootstrap")
    replace: bool = option(False, "replace an adapter of that name")


@dataclasses.dataclass
class Diary:
    """What the stages said, kept for the receipt: results, seconds, steps, evaluations, notes."""

    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    steps: list[Step] = dataclasses.field(default_factory=list)
    evals: list[Eval] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def keep(self, stage: str, records: Iterator[Record]) -> Iterator[Record]:
        """Pass a stage's records on and remember what the receipt needs of them."""
        began = time.monotonic()
        for record in records:
            match record:
                case Done():
                    self.results[stage] = record.result
                    continue
                case Step():
                    self.steps.append(record)
                case Eval():
                    self.evals.append(record)
                case Note(text, warning=True):
                    self.warnings.append(text)
            yield record
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began


def evening(options: EveningOptions, store: Store) -> Generator[Record]:
    """Run the whole way; the last record is ``Done("evening")`` with verdict, paths and figures.

    Raises what the stages raise; a tune that is interrupted names the command that goes on with it.
    """
    from nomoat.judge.account import account
    from nomoat.judge.compare import before, judge
    from nomoat.judge.options import JudgeOptions
    from nomoat.judge.receipt import write_receipt
    from nomoat.train.options import TuneOptions
    from nomoat.train.tune import tune

    clock, diary = time.monotonic(), Diary()
    budget_s = _budget_s(options)
    name = _free_name(options, store)
    yield from diary.keep("base", _base(options, store))
    data = _data_name(options, name, store)
    yield from diary.keep("rows", _rows(options, data, store))

    judged = JudgeOptions(
        model=f"{options.base}+{name}",
        data=data,
        check=options.check,
        limit=options.limit,
        forgetting=options.forgetting,
        seed=options.seed,
    )
    yield from diary.keep("before", before(judged, options.base, store))

    tuned = TuneOptions(
        data=data,
        base=options.base,
        name=name,
        epochs=options.epochs,
        rank=options.rank,
        lr=options.lr,
        memory=options.memory,
        precision=options.precision,
        threads=options.threads,
        seed=options.seed,
        replace=options.replace,
        minutes=_minutes_to_tune(budget_s, clock, diary.seconds["before"]),
    )
    yield from diary.keep("tune", tune(tuned, store))
    yield from diary.keep("after", judge(judged, store))

    path = store.path("runs", diary.results["tune"]["run"]) / RECEIPT_FILE
    facts = account(name, store, diary.results, diary.steps, diary.evals, diary.seconds, diary.warnings)
    write_receipt(path, facts)
    yield Saved(path, "receipt")
    result = {
        "name": name,
        "verdict": diary.results["after"]["verdict"],
        "judgement": diary.results["after"],
        "tune": diary.results["tune"],
        "seconds": diary.seconds,
        "receipt": str(path),
    }
    yield Done("evening", path, result)


def _base(options: EveningOptions, store: Store) -> Iterator[Record]:
    """Pull the base unless it is here."""
    from nomoat.core.bases import looks_like_path, resolve_base
    from nomoat.hub.pull import pull
    from nomoat.hub.sources import PullOptions

    try:
        path = resolve_base(store, options.base)
    except NotFound:
        if looks_like_path(options.base):
            raise
        yield from pull(options.base, PullOptions(), store)
        return
    yield Note(f"base: {options.base} ({path})")
    yield Done("base", path, {"path": str(path)})


def _rows(options: EveningOptions, data: str, store: Store) -> Iterator[Record]:
    """Make a data set of the rows unless it is one already."""
    from nomoat.data.add import AddOptions, add

    if data in store.names("data"):
        lineage = read_lineage(store.path("data", data))
        yield Note(f"rows: data set {data!r}, here already")
        yield Done("data", store.path("data", data), dict(lineage.metrics) if lineage is not None else {})
        return
    if options.rows:
        yield from add(AddOptions(paths=(options.rows,), name=data, seed=options.seed), store)
        return
    with builtin_rows() as folder:
        yield from add(AddOptions(paths=(str(folder),), name=data, licence=BUILTIN_LICENCE), store)


def builtin_rows() -> Any:
    """The folder of the built-in example, as a context manager: text-to-SQL, 1,000 rows and 100 to judge."""
    from importlib.resources import as_file

    return as_file(files("nomoat.data").joinpath("builtin", BUILTIN))


def _data_name(options: EveningOptions, name: str, store: Store) -> str:
    """A data set's own name; a file becomes a data set called like the adapter."""
    if not options.rows:
        return BUILTIN
    if options.rows in store.names("data"):
        return options.rows
    if not Path(options.rows).expanduser().exists():
        raise NotFound(
            f"{options.rows}: neither a file nor a data set", hint="nomoat ls --kind data lists the data sets"
        )
    return name


def _free_name(options: EveningOptions, store: Store) -> str:
    """The name asked for, refused at once if it is taken; else one made from the rows, numbered if need be."""
    taken = set(store.names("adapters"))
    if options.name:
        if options.name in taken and not options.replace:
            raise UsageError(
                f"there is an adapter {options.name!r} already", hint="choose another --name, or pass --replace"
            )
        return store.path("adapters", options.name).name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(options.rows).stem).strip("-.") if options.rows else BUILTIN
    stem = stem or "mine"
    numbered = (stem if n == 1 else f"{stem}-{n}" for n in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)


def _budget_s(options: EveningOptions) -> float | None:
    """Seconds from now to the end that was asked for."""
    from nomoat.train.deadline import seconds_until

    if options.minutes is not None and options.finish_by is not None:
        raise UsageError("--minutes and --finish-by both say when to end", hint="give one of them")
    if options.finish_by is not None:
        return seconds_until(options.finish_by, datetime.now())
    return 60 * options.minutes if options.minutes is not None else None


def _minutes_to_tune(budget_s: float | None, clock: float, before_s: float) -> float | None:
    """What is left for training once the second measurement has its share; ``None`` where nobody is in a hurry."""
    if budget_s is None:
        return None
    left_s = budget_s - (time.monotonic() - clock) - _JUDGING_SHARE * before_s
    if left_s < 60:
        raise UsageError(
            f"{max(0.0, left_s):.0f} s would be left to train in", hint="give more time, or --limit the rows to judge"
        )
    return left_s / 60
