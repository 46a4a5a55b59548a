"""Snapshots on disk: safetensors and JSON, written whole or not at all, the last two kept.

    checkpoint-<step>/
      parameters.safetensors   the adapter as it is now
      moments.safetensors      AdamW's two moments of every parameter
      best.safetensors         the parameters with the lowest held-out loss so far (once there are any)
      state.json               step, cursor, losses, log position, what the run was made of, file hashes

No pickle: a checkpoint that somebody sends cannot run code. A kill at any moment leaves whole folders and at
most a hidden temporary one, which the next session sweeps away.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from nomoat.core.errors import FormatError, StorageError
from nomoat.core.files import atomic_folder, disk_errors, sha256_file, write_json
from nomoat.train.state import Cursor, Snapshot, State

FORMAT = 1
KEPT = 2
STATE_FILE = "state.json"
_PREFIX = "checkpoint-"


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A snapshot as read back, the length of the log that goes with it, and the identity of its run."""

    snapshot: Snapshot
    log_bytes: int
    identity: str
    path: Path


def write_checkpoint(run_folder: Path, snapshot: Snapshot, *, log_bytes: int, identity: str) -> Path:
    """Write ``checkpoint-<step>`` into the run's folder, then drop all but the last two."""
    target = run_folder / f"{_PREFIX}{snapshot.state.step:06d}"
    parts = {"parameters": snapshot.parameters, "moments": snapshot.moments, "best": snapshot.best}
    with atomic_folder(target) as folder:
        files = {}
        for part, tensors in parts.items():
            if tensors:
                path = folder / f"{part}.safetensors"
                save_tensors(path, tensors)
                files[path.name] = sha256_file(path)
        record = {
            "format": FORMAT,
            "identity": identity,
            "log_bytes": log_bytes,
            "state": dataclasses.asdict(snapshot.state),
            "files": files,
        }
        write_json(folder / STATE_FILE, record)
    _drop_old(run_folder)
    return target


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. Raises ``StorageError`` where the disk does not take it."""
    try:
        safetensors.torch.save_file({name: value.detach().contiguous() for name, value in tensors.items()}, path)
    except safetensors.SafetensorError as error:  # what that library makes of an OSError
        raise StorageError(f"{path}: {error}", hint="free some space, or point NOMOAT_HOME at another disk") from error


def checkpoints(run_folder: Path) -> list[Path]:
    """The run's checkpoint folders, newest first."""
    with disk_errors(run_folder):
        found = [path for path in run_folder.glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(_PREFIX) :]), reverse=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, checking the hash of every file. Raises ``FormatError`` if it is not whole."""
    try:
        record = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise FormatError(f"checkpoint format {record['format']}, this version reads {FORMAT}", file=folder)
        parts = {part: _read_part(folder, part, record["files"]) for part in ("parameters", "moments", "best")}
        snapshot = Snapshot(_read_state(record["state"]), **parts)
        return Checkpoint(snapshot, int(record["log_bytes"]), str(record["identity"]), folder)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise FormatError(f"not a whole checkpoint: {error}", file=folder) from error


def _read_part(folder: Path, part: str, files: Mapping[str, str]) -> dict[str, Tensor]:
    path = folder / f"{part}.safetensors"
    if path.name not in files:
        return {}
    if sha256_file(path) != files[path.name]:
        raise FormatError("the file has changed since it was written", file=path)
    loaded: dict[str, Tensor] = safetensors.torch.load_file(path)
    return loaded


def _read_state(values: Mapping[str, Any]) -> State:
    return State(**{**values, "cursor": Cursor(**values["cursor"])})


def drop_checkpoints(run_folder: Path, *, keep: int = 0) -> None:
    """Delete all but the newest ``keep`` checkpoints, and what a killed session left half-written."""
    with disk_errors(run_folder):
        for path in checkpoints(run_folder)[keep:]:
            shutil.rmtree(path)
        for path in run_folder.glob(f".{_PREFIX}*"):
            shutil.rmtree(path)


def _drop_old(run_folder: Path) -> None:
    with disk_errors(run_folder):
        for path in checkpoints(run_folder)[KEPT:]:
            shutil.rmtree(path)
