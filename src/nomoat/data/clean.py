"""Rows that should not be learned: exact duplicates, and rows whose questions stand in held-out files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nomoat.core.errors import UsageError
from nomoat.data import kinds
from nomoat.data.documents import read_document
from nomoat.data.rows import Place, Row, content_key, prompt_of, question_key, questions_of
from nomoat.data.sources import find

_QUESTION_FIELDS = ("prompt", "question", "instruction", "query", "text", "input", "problem", "turns")


class Seen:
    """Remembers rows by their content."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def is_new(self, row: Row) -> bool:
        """Whether no equal row came before; remembers it."""
        key = content_key(row)
        if key in self._keys:
            return False
        self._keys.add(key)
        return True


def answered_differently(rows: Iterable[Row]) -> int:
    """How many rows repeat the prompt of another row with another answer (text rows have no answer)."""
    counts = Counter(question_key(prompt_of(row)) for row in rows if "text" not in row)
    return sum(count - 1 for count in counts.values())


def prompt_keys(rows: Iterable[Row]) -> set[str]:
    """The prompts of rows, as they are compared."""
    return {question_key(prompt_of(row)) for row in rows}


def asks_any(row: Row, keys: set[str]) -> bool:
    """Whether the row's prompt, or any question in its conversation, is among ``keys``."""
    return any(question_key(question) in keys for question in questions_of(row))


def held_out_keys(path: Path) -> set[str]:
    """Every question of a held-out file or folder, as compared. Its rows need no answers.

    Raises ``DataError`` at a row in which no question is found.
    """
    keys: set[str] = set()
    for source in find(path).sources:
        if source.is_document:
            keys.add(question_key(read_document(source.path)))
            continue
        for row, (line, raw) in enumerate(source.raw_rows(), start=1):
            place = Place(str(source.path), line, row)
            if not isinstance(raw, dict):
                raise place.error("a row must be an object")
            found = _questions(raw, place)
            if not found:
                raise place.error(
                    "no question found in this held-out row", hint=f"known: {', '.join(_QUESTION_FIELDS)}"
                )
            keys |= found
    if not keys:
        raise UsageError(f"{path} holds no question to compare with")
    return keys


def _questions(raw: dict[str, object], place: Place) -> set[str]:
    """The questions of a raw row: of its rows where it is of a known kind, and of its fields in any case."""
    keys = set()
    guess = kinds.guess(raw)
    if guess is not None and guess.kind.convert is not None and not kinds.needs_media(raw):
        keys = {question_key(asked) for row in guess.convert(raw, place) for asked in questions_of(row)}
    for field in _QUESTION_FIELDS:
        value = raw.get(field)
        texts = value if isinstance(value, list) else [value]
        keys |= {question_key(text) for text in texts if isinstance(text, str)}
    return keys - {""}
