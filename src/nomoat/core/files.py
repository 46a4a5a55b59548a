"""Whole files or none: atomic writes, hashes, and disk errors said in our words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nomoat.core.errors import StorageError

CHUNK_BYTES = 1 << 20

_HINTS = {
    errno.ENOSPC: "free some space, or point NOMOAT_HOME at another disk",
    errno.EDQUOT: "your disk quota is used up; free some space, or point NOMOAT_HOME at another disk",
    errno.EROFS: "point NOMOAT_HOME at a folder that can be written",
    errno.EACCES: "point NOMOAT_HOME at a folder that you may write",
    errno.EPERM: "point NOMOAT_HOME at a folder that you may write",
    errno.ENOTDIR: "a file stands where a folder is needed; point NOMOAT_HOME elsewhere",
}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{error.filename or path}: {reason.lower()}", hint=_HINTS.get(error.errno or 0, "")
        ) from error


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside ``target``; on success it takes target's place.

    A reader sees the old folder or the new one, never a part; on any error nothing is left behind.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield temporary
            _sync_tree(temporary)
            _swap_in(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap_in(temporary: Path, target: Path) -> None:
    temporary.chmod(0o755)
    if not target.exists():
        temporary.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / "old")
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """Give an open temporary file beside ``target`` that takes its place when the block ends well."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)  # a temporary file is its owner's alone
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)


def atomic_write(target: Path, content: bytes | str) -> None:
    """Write a small file so that it exists whole or not at all."""
    with atomic_file(target) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    atomic_write(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(target: Path, values: Iterable[Any]) -> None:
    """Write each of ``values`` as a line of JSON, atomically."""
    with atomic_file(target) as file:
        file.writelines(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def sha256_file(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return the file's SHA-256 in hex; ``progress`` gets the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    with disk_errors(path), path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done)
    return digest.hexdigest()
