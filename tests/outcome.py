"""What a stage that yields records ends with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nomoat.core.records import Note, Record


def outcome(records: Iterator[Record]) -> tuple[list[str], Any]:
    """Notes, and what the generator returned."""
    notes = []
    while True:
        try:
            record = next(records)
        except StopIteration as end:
            return notes, end.value
        if isinstance(record, Note):
            notes.append(record.text)
