"""A home of its own for what is only tried: nothing of it is left among the user's things."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nomoat.core.files import write_lines
from nomoat.core.store import Store
from nomoat.data.rows import Row


@contextlib.contextmanager
def home_aside(name: str, splits: Mapping[str, Sequence[Row]]) -> Iterator[Store]:
    """A home that holds the data set ``name`` alone, and is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="nomoat-aside-") as home:
        store = Store(Path(home))
        with store.writing("data", name) as folder:
            write_splits(folder, splits)
        yield store


def write_splits(folder: Path, splits: Mapping[str, Sequence[Row]]) -> None:
    """The rows of a data set in the files that a tune reads."""
    for split, rows in splits.items():
        write_lines(folder / f"{split}.jsonl", rows)
