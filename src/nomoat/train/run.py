"""The folder of one run: what it was asked, what it was made of, its log, its checkpoints.

    runs/<adapter>-<n>/
      options.json      options, what was settled at the start, hashes of base and data, versions
      log.jsonl         every record, one a line; cut back to the checkpoint when a run is resumed
      checkpoint-<step>/
      loss.png  result.json     once it is finished (the picture: of two steps or more)

Everything is written whole or appended, so a run that is killed at any moment can be resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomoat.core.errors import FormatError, UsageError
from nomoat.core.files import disk_errors, write_json
from nomoat.core.records import Record, Saved, as_json
from nomoat.core.store import Store
from nomoat.model.recompute import Recompute
from nomoat.train.checkpoint import Checkpoint, checkpoints, read_checkpoint, write_checkpoint
from nomoat.train.state import Snapshot

OPTIONS_FILE, LOG_FILE, RESULT_FILE, PLOT_FILE = "options.json", "log.jsonl", "result.json", "loss.png"
CHECKPOINT_EVERY_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """What was decided when the run began, and must be the same when it goes on.

    ``precision``, ``first_layer`` and ``logits`` are an ``Arithmetic``. ``recompute`` changes memory, no result.
    """

    steps: int
    pack_tokens: int
    eval_every: int
    threads: int
    precision: str = "float32"
    first_layer: int = 0
    logits: bool = True
    recompute: Recompute = "least"


@dataclasses.dataclass(frozen=True, slots=True)
class RunRecord:
    """``options.json``. ``made_of`` holds what the bytes of the result depend on besides the options."""

    options: dict[str, Any]
    settled: Settled
    made_of: dict[str, Any]
    versions: dict[str, str]
    created: str
    plan: dict[str, Any] | None = None

    @property
    def identity(self) -> str:
        """Hash that a checkpoint, and the finished adapter, share with their run and no other."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


class Run:
    """A run's folder, open for writing. ``id`` is what the user calls it by: the folder's name, or its sweep's."""

    def __init__(self, path: Path, record: RunRecord, id: str = "") -> None:
        self.path, self.record, self.id = path, record, id or path.name

    @property
    def finished(self) -> bool:
        return (self.path / RESULT_FILE).exists()

    @property
    def log_path(self) -> Path:
        return self.path / LOG_FILE

    @property
    def resume_command(self) -> str:
        return f"nomoat tune --resume {self.id}"

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint of this run, and why newer ones were passed over."""
        complaints = []
        for folder in checkpoints(self.path):
            try:
                checkpoint = read_checkpoint(folder)
            except FormatError as error:
                complaints.append(error.message)
                continue
            if checkpoint.identity == self.record.identity:
                return checkpoint, complaints
            complaints.append(f"{folder}: belongs to another run")
        return None, complaints

    @contextlib.contextmanager
    def logging(self, start_bytes: int) -> Iterator[Log]:
        """Open the log, cut back to ``start_bytes``."""
        with disk_errors(self.log_path), self.log_path.open("ab") as file:
            file.truncate(min(start_bytes, file.seek(0, os.SEEK_END)))
            yield Log(self, file.fileno())

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_json(self.path / RESULT_FILE, result)


class Log:
    """The open log of a run, and the keeper of its snapshots (``state.Keeper``)."""

    def __init__(self, run: Run, descriptor: int) -> None:
        self._run, self._descriptor = run, descriptor
        self._saved_at = time.monotonic()

    @property
    def resume_command(self) -> str:
        return self._run.resume_command

    def write(self, record: Record) -> None:
        """Append a record; checkpoints are not news."""
        if isinstance(record, Saved):
            return
        line = json.dumps(as_json(record), ensure_ascii=False) + "\n"
        with disk_errors(self._run.log_path):
            os.write(self._descriptor, line.encode())

    def due(self) -> bool:
        """Whether a snapshot is due by the clock."""
        return time.monotonic() - self._saved_at >= CHECKPOINT_EVERY_S

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, with the length of the log up to it."""
        with disk_errors(self._run.log_path):
            os.fsync(self._descriptor)
            length = os.lseek(self._descriptor, 0, os.SEEK_END)
        write_checkpoint(self._run.path, snapshot, log_bytes=length, identity=self._run.record.identity)
        self._saved_at = time.monotonic()


def free_run_id(store: Store, adapter_name: str) -> str:
    """``<adapter>-<n>`` with the first free number."""
    taken = set(store.names("runs"))
    stem = (adapter_name or "tune")[:90]
    number = next(n for n in range(1, len(taken) + 2) if f"{stem}-{n}" not in taken)
    return f"{stem}-{number}"


def create_run(store: Store, adapter_name: str, record: RunRecord) -> Run:
    """Make the folder of a new run."""
    run_id = free_run_id(store, adapter_name)
    with store.writing("runs", run_id) as folder:
        write_json(folder / OPTIONS_FILE, dataclasses.asdict(record))
    return Run(store.path("runs", run_id), record)


def open_run(store: Store, run_id: str) -> Run:
    """The run of that id. Raises ``NotFound`` or ``FormatError``."""
    path = store.find("runs", run_id)
    return Run(path, read_record(path))


def read_record(path: Path) -> RunRecord:
    """What the run in ``path`` wrote down when it began. Raises ``FormatError``."""
    file = path / OPTIONS_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return RunRecord(**{**values, "settled": Settled(**values["settled"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not the record of a run: {error}", file=file) from error


def check_same(then: dict[str, Any], now: dict[str, Any], *, what: str, hint: str) -> None:
    """Raise ``UsageError`` naming every entry of ``then`` that is another one now."""
    changed = [
        f"{key} was {_short(then.get(key))} and is {_short(now.get(key))}"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    if changed:
        raise UsageError(f"cannot resume with other {what}: " + "; ".join(changed), hint=hint)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:18] + "..." + text[-4:]
