"""What a stage that yields records said, and what it ended with."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from nomoat.core.records import Done, Note, Record, returned

T = TypeVar("T")


def heard(work: Generator[Record, None, T]) -> tuple[list[Record], T]:
    """Every record, and what the generator returned."""
    seen: list[Record] = []
    return seen, returned(work, seen.append)


def outcome(work: Generator[Record, None, Any]) -> tuple[list[str], Any]:
    """Notes, and what the generator returned."""
    seen, value = heard(work)
    return notes(seen), value


def ended(records: Iterable[Record]) -> tuple[list[Record], Done]:
    """Every record, and the last of them, which says that the stage is done."""
    seen = list(records)
    done = seen[-1]
    assert isinstance(done, Done)
    return seen, done


def finished(records: Iterable[Record]) -> tuple[Done, str]:
    """The last record, which says that it is done, and the notes as one text."""
    seen, done = ended(records)
    return done, "\n".join(notes(seen))


def notes(records: Iterable[Record]) -> list[str]:
    """The sentences among them."""
    return [record.text for record in records if isinstance(record, Note)]
