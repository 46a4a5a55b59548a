"""Snapshots on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from full_disk import small_disk
from nomoat.core.errors import FormatError, StorageError
from nomoat.train.checkpoint import checkpoints, drop_checkpoints, read_checkpoint, write_checkpoint
from nomoat.train.state import Cursor, Snapshot, State


def snapshot(step: int, *, size: int = 7) -> Snapshot:
    values = {name: torch.randn(size, 3, generator=torch.Generator().manual_seed(step)) for name in ("a.A", "a.B")}
    moments = {f"{kind}.{name}": value * 2 for kind in ("mean", "square") for name, value in values.items()}
    state = State(step, Cursor(1, 8 * step), evaluated=step, before_loss=2.5, best_loss=1 / 3, best_step=step, tokens=9)
    return Snapshot(state, values, moments, {name: value + 1 for name, value in values.items()})


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    written = snapshot(3)
    folder = write_checkpoint(tmp_path, written, log_bytes=123, identity="abc")
    read = read_checkpoint(folder)
    assert (read.log_bytes, read.identity, read.snapshot.state) == (123, "abc", written.state)
    again = read.snapshot
    pairs = ((written.parameters, again.parameters), (written.moments, again.moments), (written.best, again.best))
    for before, after in pairs:
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, snapshot(1), log_bytes=0, identity="")
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_the_last_two_are_kept_and_the_newest_comes_first(tmp_path: Path) -> None:
    for step in (5, 9, 10, 1000000):
        write_checkpoint(tmp_path, snapshot(step), log_bytes=0, identity="")
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-1000000", "checkpoint-000010"]


def test_half_written_folders_are_swept_away(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, snapshot(5), log_bytes=0, identity="")
    torn = tmp_path / ".checkpoint-000006-x1y2"
    torn.mkdir()
    (torn / "parameters.safetensors").write_bytes(b"half")
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000005"]
    drop_checkpoints(tmp_path, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000005"]


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, snapshot(5), log_bytes=0, identity="")
    file = folder / "moments.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(FormatError, match=r"moments\.safetensors: the file has changed"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "state": 3}', "\x00"])
def test_a_state_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    folder = write_checkpoint(tmp_path, snapshot(5), log_bytes=0, identity="")
    (folder / "state.json").write_text(content)
    with pytest.raises(FormatError, match="checkpoint"):
        read_checkpoint(folder)


def test_a_format_of_the_future_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, snapshot(5), log_bytes=0, identity="")
    record = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(FormatError, match="checkpoint format 2"):
        read_checkpoint(folder)


def test_a_disk_that_does_not_take_it_leaves_the_checkpoint_before_and_nothing_else(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path, snapshot(5), log_bytes=0, identity="")
    with small_disk(8192), pytest.raises(StorageError, match="too large") as caught:
        write_checkpoint(tmp_path, snapshot(6, size=5000), log_bytes=0, identity="")
    assert "NOMOAT_HOME" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000005"]
    read_checkpoint(tmp_path / "checkpoint-000005")
