"""What a row is, what is wrong with it, and what makes two rows the same.

A row is a dict of exactly one of these shapes:

    {"text"}                        learned whole
    {"prompt", "completion"}        the completion is learned
    {"messages"[, "tools"]}         the assistant's turns are learned

Messages are the OpenAI ones, normalised: roles ``system``, ``user``, ``assistant``, ``tool``; ``content`` is text;
``tool_calls`` carry their arguments as an object.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Any, NamedTuple

from nomoat.core.errors import DataError

Row = dict[str, Any]
Message = dict[str, Any]

_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_FOLLOWERS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("tool", "assistant"),
}


class Place(NamedTuple):
    """Where a raw row stands: its file, its line (its number in a Parquet file), and which row it is, from 1."""

    file: str
    line: int | None = None
    row: int | None = None

    def error(self, message: str, *, field: str | None = None, hint: str = "") -> DataError:
        """A ``DataError`` that names this place."""
        if self.row != self.line:
            message = f"row {self.row}: {message}"
        return DataError(message, file=self.file, line=self.line, field=field, hint=hint)

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return place if self.row == self.line else f"{place} (row {self.row})"


def check_text(text: str, place: Place, field: str) -> str:
    """Return ``text`` if it can be written as UTF-8 and holds no NUL; else raise ``DataError``."""
    bad = _NOT_TEXT.search(text)
    if bad is None:
        return text
    what = "a NUL character" if bad[0] == "\x00" else f"half a surrogate pair (U+{ord(bad[0]):04X})"
    raise place.error(f"character {bad.start() + 1} is {what}, so this is not text", field=field)


def kind_of(row: Row) -> str:
    """``"text"``, ``"prompt-completion"`` or ``"messages"``."""
    if "messages" in row:
        return "messages"
    return "text" if "text" in row else "prompt-completion"


def defect(row: Row) -> str | None:
    """Why a well-formed row cannot teach anything, or ``None``: such rows are dropped and counted."""
    if "text" in row:
        return None if row["text"].strip() else "empty text"
    if "messages" in row:
        return _conversation_defect(row["messages"])
    if not row["completion"].strip():
        return "empty answer"
    return None if row["prompt"].strip() else "empty prompt"


def _conversation_defect(messages: list[Message]) -> str | None:
    before = ""
    for message in messages:
        role = message["role"]
        if role not in _FOLLOWERS[before]:
            return "turns in an impossible order"
        if role == "assistant" and not message["content"].strip() and not message.get("tool_calls"):
            return "empty answer"
        before = "call" if message.get("tool_calls") else role
    return None if before in ("assistant", "call") else "no answer at the end"


def prompt_of(row: Row) -> str:
    """What the model is given before it must answer: up to the first answer; the whole of a text row."""
    if "text" in row:
        return str(row["text"])
    if "prompt" in row:
        return str(row["prompt"])
    asked = []
    for message in row["messages"]:
        if message["role"] == "assistant":
            break
        asked.append(message["content"])
    return "\n".join(asked)


def questions_of(row: Row) -> list[str]:
    """Every question of a row: its prompt, and each of the user's turns."""
    turns = [message["content"] for message in row.get("messages", ()) if message["role"] == "user"]
    return [prompt_of(row), *turns]


def characters(row: Row) -> int:
    """How much text a row holds, calls and tools included."""
    if "text" in row:
        return len(row["text"])
    if "prompt" in row:
        return len(row["prompt"]) + len(row["completion"])
    extras = [message["tool_calls"] for message in row["messages"] if message.get("tool_calls")]
    extras += [row["tools"]] if row.get("tools") else []
    written = sum(len(message["content"]) for message in row["messages"])
    return written + sum(len(json.dumps(extra, ensure_ascii=False)) for extra in extras)


def content_key(row: Row) -> bytes:
    """Digest of the row's content; equal for rows that differ only in Unicode form and in space at line ends."""
    return hashlib.sha256(json.dumps(_settled(row), sort_keys=True).encode()).digest()


def _settled(value: Any) -> Any:
    if isinstance(value, str):
        lines = unicodedata.normalize("NFC", value).strip().splitlines()
        return "\n".join(line.rstrip() for line in lines)
    if isinstance(value, dict):
        return {key: _settled(inner) for key, inner in value.items()}
    return [_settled(inner) for inner in value] if isinstance(value, list) else value


def question_key(text: str) -> str:
    """The text as it is compared between data sets: one case, one Unicode form, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
