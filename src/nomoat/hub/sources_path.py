"""A base that lies on this machine: a GGUF file or a Hugging Face folder, recorded where it is, or copied."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path

from nomoat.core.bases import GGUF_NAME, is_model
from nomoat.core.errors import FormatError, HashMismatch
from nomoat.core.records import Note, Record
from nomoat.hub.download import hash_file
from nomoat.hub.sources import Fetched, PathSource


def fetch(source: PathSource) -> Generator[Record, None, Fetched]:
    """Hash the model where it lies; ``copy`` asks for its files in the store, else the path is recorded."""
    path = source.path.resolve()
    if not is_model(path):
        raise FormatError(
            "neither a GGUF file nor a folder with config.json and *.safetensors",
            file=path,
            hint="pickled weights (.bin, .pt) are not read: they can run code",
        )
    files = {GGUF_NAME: path} if path.is_file() else _folder_files(path)
    sha256, size = yield from _hash(files, path.is_file())
    if source.sha256 and sha256 != source.sha256:
        raise HashMismatch(f"{path}: its SHA-256 is {sha256}, not {source.sha256}")
    if source.copy:
        return Fetched(str(path), sha256, size, files, keep=True)
    yield Note(f"linked, not copied: {path} must stay where it is (--copy makes a copy)")
    return Fetched(str(path), sha256, size, linked=path)


def _folder_files(folder: Path) -> dict[str, Path]:
    """The files directly in the folder; pickles and folders inside it are left out."""
    wanted = (".json", ".safetensors", ".model", ".txt", ".jinja")
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in wanted and path.name != "nomoat.json"
    }


def _hash(files: dict[str, Path], single: bool) -> Generator[Record, None, tuple[str, int]]:
    digest, size = hashlib.sha256(), 0
    for name, path in files.items():
        sha256, _ = yield from hash_file(path, path.name)
        size += path.stat().st_size
        if single:
            return sha256, size
        digest.update(f"{sha256}  {name}\n".encode())
    return digest.hexdigest(), size
