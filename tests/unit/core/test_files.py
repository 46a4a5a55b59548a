"""Atomic files and folders, hashes, and disk errors in our words."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from nomoat.core.errors import StorageError
from nomoat.core.files import atomic_folder, atomic_write, disk_errors, sha256_file, write_json


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "b.txt", "hello")
    assert (tmp_path / "a" / "b.txt").read_text() == "hello"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "b.txt"
    atomic_write(target, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        atomic_write(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_json_keeps_every_script_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "日本語"})
    assert "日本語" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_a_folder_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "made") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("code", "word"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "can be written"), (errno.EACCES, "may write")]
)
def test_the_hint_fits_the_trouble(code: int, word: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught, disk_errors(tmp_path):
        raise OSError(code, os.strerror(code))
    assert word in caught.value.hint and str(tmp_path) in caught.value.message


def test_the_hash_is_sha256_and_progress_counts_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    seen: list[int] = []
    assert sha256_file(tmp_path / "x", seen.append) == hashlib.sha256(data).hexdigest()
    assert seen == sorted(seen) and seen[-1] == len(data)
