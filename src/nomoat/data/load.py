"""Rows out of a data artefact."""

from __future__ import annotations

from pathlib import Path

from nomoat.core.errors import DataError, NotFound
from nomoat.data.json_files import read_lines
from nomoat.data.rows import Row

SPLITS = ("train", "valid", "test")
_SHAPES = ({"text"}, {"prompt", "completion"}, {"messages"}, {"messages", "tools"})


def load_rows(folder: Path, split: str) -> list[Row]:
    """The rows of one split of the artefact in ``folder``; empty where nothing fell into the split.

    Raises ``NotFound`` where there is no such split, ``DataError`` at a row that has none of our shapes.
    """
    file = folder / f"{split}.jsonl"
    if split not in SPLITS or not file.is_file():
        raise NotFound(f"{folder} has no {split!r} split", hint=f"nomoat data add PATH --name {folder.name} --replace")
    rows = []
    for number, row in read_lines(file):
        if not isinstance(row, dict) or set(row) not in _SHAPES:
            raise DataError("not a row that `nomoat data add` wrote", file=file, line=number)
        rows.append(row)
    return rows
