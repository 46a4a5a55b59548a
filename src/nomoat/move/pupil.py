"""The student: an adapter on the new base, tuned on the lesson under a name that says it is not proven yet."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping
from typing import Any

from nomoat.core.records import Note, Record
from nomoat.core.store import Store, read_lineage
from nomoat.move.options import TUNED
from nomoat.move.relocation import Relocation
from nomoat.train.options import TuneOptions
from nomoat.train.parents import split_hashes
from nomoat.train.run import open_run
from nomoat.train.tune import resume, tune


def tune_options(moving: Relocation, data: str, **changes: Any) -> TuneOptions:
    """The options of the student's tune on ``data``."""
    values = {name: value for name, value in dataclasses.asdict(moving.options).items() if name in TUNED}
    named = {"data": data, "base": moving.options.to, "name": moving.unproven, "chat": moving.reading.chat}
    return TuneOptions(**{**values, **named, **changes})


def train_pupil(moving: Relocation, store: Store) -> Generator[Record]:
    """Tune, go on with a run that was stopped, or find the student finished: an earlier start may have come so far."""
    wanted = tune_options(moving, moving.lesson, distil=moving.learn != "words", replace=moving.options.replace)
    if _is_finished(moving, wanted, store):
        yield Note(f"the student is there from before: adapters/{moving.unproven}")
        return
    run = _stopped_run(moving, wanted, store)
    yield from resume(run, store) if run else tune(wanted, store)


def _is_finished(moving: Relocation, wanted: TuneOptions, store: Store) -> bool:
    lineage = read_lineage(store.path("adapters", moving.unproven))
    return lineage is not None and _same(moving, wanted, lineage.options, lineage.details.get("made_of") or {}, store)


def _stopped_run(moving: Relocation, wanted: TuneOptions, store: Store) -> str:
    """The latest run of this student that did not come to its end; empty where there is none."""
    ours = [name for name in store.names("runs") if name.startswith(f"{moving.unproven}-")]
    runs = [run for run in (open_run(store, name) for name in ours) if not run.finished]
    same = [run for run in runs if _same(moving, wanted, run.record.options, run.record.made_of, store)]
    return max(same, key=lambda run: run.record.created).id if same else ""


def _same(
    moving: Relocation, wanted: TuneOptions, options: Mapping[str, Any], made_of: Mapping[str, Any], store: Store
) -> bool:
    """Whether a tune was of these options and rows; how the base was named does not count, its weights do."""
    aside = ("base", "replace", "threads", "memory", "probe_seconds")
    asked = json.loads(json.dumps(dataclasses.asdict(wanted)))  # as a record reads: lists where there are tuples
    known = json.loads(json.dumps(dict(options)))
    same = all(known.get(key) == value for key, value in asked.items() if key not in aside)
    rows = split_hashes(store.path("data", moving.lesson))
    return (
        same
        and made_of.get("base") == moving.new.fingerprint.exact
        and all(made_of.get(split) == sha256 for split, sha256 in rows.items())
    )
