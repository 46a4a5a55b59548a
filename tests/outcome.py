"""What a stage that yields records ends with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nomoat.core.records import Done, Note, Record


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


def finished(records: Iterator[Record]) -> tuple[Done, str]:
    """The last record, which says that it is done, and the notes as one text."""
    seen = list(records)
    done = seen[-1]
    assert isinstance(done, Done)
    return done, "\n".join(record.text for record in seen if isinstance(record, Note))
