"""The folder of a sweep: one run inside it for each adapter.

runs/<name>-<n>/
  sweep.json           the name asked for, which adapters are kept, the members' labels
  <label>/             options.json, log.jsonl, checkpoint-<step>/: a run, as ``run.py`` describes it
  prefix/              with --top-layers, the cache that all members share
  result.json          once it is finished
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nomoat.core.errors import FormatError
from nomoat.core.files import write_json
from nomoat.core.store import Store
from nomoat.train.run import OPTIONS_FILE, RESULT_FILE, Run, RunRecord, free_run_id, read_record

SWEEP_FILE = "sweep.json"


@dataclasses.dataclass(frozen=True, slots=True)
class SweepRun:
    """A sweep's folder. ``name``: of the best adapter; ``keep``: ``best`` or ``all``; a run for each label."""

    path: Path
    name: str
    keep: str
    labels: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def resume_command(self) -> str:
        return f"nomoat tune --resume {self.id}"

    @property
    def finished(self) -> bool:
        return (self.path / RESULT_FILE).exists()

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the sweep as finished."""
        write_json(self.path / RESULT_FILE, result)


def create_sweep(store: Store, name: str, keep: str, records: Mapping[str, RunRecord]) -> SweepRun:
    """Make the folder of a new sweep, whole."""
    run_id = free_run_id(store, name)
    with store.writing("runs", run_id) as folder:
        for label, record in records.items():
            write_json(folder / label / OPTIONS_FILE, dataclasses.asdict(record))
        write_json(folder / SWEEP_FILE, {"name": name, "keep": keep, "members": list(records)})
    return open_sweep(store, run_id)


def is_sweep(store: Store, run_id: str) -> bool:
    """Whether the run of that id is a sweep. Raises ``NotFound``."""
    return (store.find("runs", run_id) / SWEEP_FILE).exists()


def open_sweep(store: Store, run_id: str) -> SweepRun:
    """The sweep of that id. Raises ``NotFound`` or ``FormatError``."""
    path = store.find("runs", run_id)
    file = path / SWEEP_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        name, keep, labels = str(values["name"]), str(values["keep"]), tuple(map(str, values["members"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not the record of a sweep: {error}", file=file) from error
    runs = tuple(Run(path / label, read_record(path / label), id=run_id) for label in labels)
    return SweepRun(path, name, keep, labels, runs)
