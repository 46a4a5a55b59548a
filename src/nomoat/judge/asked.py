"""Questions for an arena: typed, or read from a file that need hold no answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import UsageError
from nomoat.core.store import Store
from nomoat.data.json_files import read_lines, read_values
from nomoat.data.plain_text import text_lines
from nomoat.data.rows import Place, check_text
from nomoat.judge.contest import read_topics
from nomoat.judge.topics import Topic

_FIELDS: Final = ("prompt", "question", "instruction")
_READERS: Final = {".jsonl": read_lines, ".json": read_values, ".txt": text_lines}


def typed(text: str) -> Topic:
    """A question that somebody typed. Raises ``UsageError`` for an empty one."""
    if not text.strip():
        raise UsageError("the question is empty")
    return _topic("typed", "", text)


def questions_of(store: Store, data: str) -> list[Topic]:
    """The test rows of a data set, or the questions of a file, in their order, with all turns that they have.

    Files: one question a line (``.txt``), rows of ``prompt``, ``question`` or ``instruction``, and what ``read_topics``
    reads. Raises ``NotFound``, ``DataError``, and ``UsageError`` where nothing is asked.
    """
    path = Path(data).expanduser()
    bare = data not in store.names("data") and path.is_file() and path.suffix in _READERS
    found: list[Topic | None] = list(_bare(path)) if bare else [None]
    if any(topic is None for topic in found):  # rows of another kind among them
        return read_topics(store, data, 0)
    kept = [topic for topic in found if topic is not None]
    if not kept:
        raise UsageError(f"{data} holds no questions", hint="one question a line, or rows with prompts")
    return kept


def _bare(path: Path) -> Iterator[Topic | None]:
    """Questions as they stand in a file; ``None`` for a row that is something else."""
    for line, raw in _READERS[path.suffix](path):
        text = _question(raw)
        if text is None:
            yield None
        elif text.strip():
            category = raw.get("category") if isinstance(raw, dict) else ""
            content = check_text(text, Place(str(path), line, line), "question")
            yield _topic(f"{path.name}:{line}", category if isinstance(category, str) else "", content)


def _question(raw: Any) -> str | None:
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, dict):
        return None
    fields = ("text", *_FIELDS) if "question_id" in raw else _FIELDS  # the Vicuna questions of 2023 say "text"
    text = next((raw[field] for field in fields if isinstance(raw.get(field), str)), None)
    more = raw.get("input")
    return f"{text}\n\n{more}" if text is not None and isinstance(more, str) and more.strip() else text


def _topic(key: str, category: str, text: str) -> Topic:
    return Topic(key, category, ({"role": "user", "content": text.strip()},))
