"""The stages of an evening that need a word of their own: base, rows, tune; and the names of what comes out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.records import Done, Eval, Note, Record, Step
from nomoat.core.store import Store, read_lineage
from nomoat.evening.diary import Diary
from nomoat.evening.options import EveningOptions

BUILTIN = "text-to-sql"
BUILTIN_LICENCE = "MIT AND BSD-3-Clause"


def base_stage(options: EveningOptions, store: Store) -> Iterator[Record]:
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


def rows_stage(options: EveningOptions, data: str, store: Store) -> Iterator[Record]:
    """Make a data set of the rows unless it is one already."""
    from nomoat.data.add import AddOptions, add

    if data in store.names("data"):
        lineage = read_lineage(store.path("data", data))
        yield Note(f"rows: data set {data!r}, here already")
        yield Done("data", store.path("data", data), dict(lineage.metrics) if lineage is not None else {})
        return
    if options.rows:
        yield from add(AddOptions(paths=(options.rows,), name=data, seed=options.seed), store, to_be_judged=True)
        return
    with builtin_rows() as folder:
        yield from add(AddOptions(paths=(str(folder),), name=data, licence=BUILTIN_LICENCE), store)


def builtin_rows() -> Any:
    """The folder of the built-in example, as a context manager: text-to-SQL, 1,000 rows and 100 to judge."""
    from importlib.resources import as_file

    return as_file(files("nomoat.data").joinpath("builtin", BUILTIN))


def tune_stage(diary: Diary, store: Store, minutes: Callable[[], float | None]) -> Iterator[Record]:
    """Train the adapter in ``minutes``, or go on with the run of it that an earlier session began."""
    from nomoat.train.options import TuneOptions
    from nomoat.train.tune import resume, tune

    options, runs = diary.options, _own_runs(diary, store)
    if runs:
        done = _finished(diary.name, runs[-1], store)
        yield from [done] if done is not None else resume(runs[-1], store)
        return
    shared = ("epochs", "rank", "lr", "memory", "precision", "threads", "seed", "replace")
    values = {key: value for key, value in dataclasses.asdict(options).items() if key in shared}
    rehearse = _general_rows(diary, store) if options.rehearse < 0 else options.rehearse
    values |= {"rehearse": rehearse, "minutes": minutes()}
    yield from tune(TuneOptions(data=diary.data, base=options.base, name=diary.name, **values), store)


def _general_rows(diary: Diary, store: Store) -> int:
    """How many general rows go among the user's own: one to ten of them, or all there are."""
    from nomoat.data.general import how_many
    from nomoat.data.load import load_rows

    return min(len(load_rows(store.path("data", diary.data), "train")) // 10, how_many())


def _own_runs(diary: Diary, store: Store) -> list[str]:
    """The runs of this adapter that began since the evening did, the latest last."""
    from nomoat.train.run import open_run

    ours = [name for name in store.names("runs") if name.startswith(f"{diary.name}-") and name not in diary.runs_before]
    runs = [open_run(store, name) for name in ours]
    mine = [run for run in runs if run.record.options.get("name") == diary.name]
    return [run.id for run in sorted(mine, key=lambda run: run.record.created)]


def _finished(name: str, run_id: str, store: Store) -> Done | None:
    """The result of a tune that was done before the evening was stopped."""
    lineage = read_lineage(store.path("adapters", name))
    if lineage is None or lineage.details.get("run") != run_id:
        return None
    return Done("adapter", store.path("adapters", name), {"name": name, "run": run_id, **lineage.metrics})


def curve(store: Store, run_id: str) -> tuple[list[Step], list[Eval]]:
    """Steps and measurements of a run, those of earlier sessions too."""
    from nomoat.train.plot import read_log
    from nomoat.train.run import LOG_FILE

    kinds: dict[str, list[dict[str, Any]]] = {"step": [], "eval": []}
    for record in read_log(store.path("runs", run_id) / LOG_FILE):
        if (kind := record.pop("record")) in kinds:
            kinds[kind].append(record)
    return [Step(**values) for values in kinds["step"]], [Eval(**values) for values in kinds["eval"]]


def data_name(options: EveningOptions, name: str, store: Store) -> str:
    """A data set's own name; a file becomes a data set called like the adapter."""
    if not options.rows:
        return BUILTIN
    if options.rows in store.names("data"):
        return options.rows
    if not Path(options.rows).expanduser().exists():
        store.find_data(options.rows)  # raises, with near matches
    return name


def free_name(options: EveningOptions, store: Store) -> str:
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
