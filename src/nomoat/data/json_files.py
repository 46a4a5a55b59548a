"""JSON and JSON Lines, streamed value by value, strictly (RFC 8259).

Refused with the line: duplicate keys, NaN and infinities, numbers that overflow, more than 100 levels of nesting, a
row of more than 64 Mi characters. An array, one object a line, objects one after another, and an object that
wraps the rows (``{"data": [...]}``, ``{"id1": {...}, "id2": {...}}``) are all read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from nomoat.core.errors import DataError
from nomoat.data.plain_text import text_chunks, text_lines

MAX_ROW_CHARACTERS = 64 << 20
MAX_DEPTH = 100  # far under Python's recursion limit, which what is done with a row later must not meet
_BLANK = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = 12  # "-Infinity" or "\\ud83d\\ude00": closer to the end of the buffer an error may be a cut
Numbered = tuple[int | None, Any]


class _Refused(ValueError):
    """Legal for Python's parser, not for us."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise _Refused(f"key {twice!r} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f"the number {digits[:20]} is too large")
    return value


def _refuse_depth(value: Any, n_brackets: int) -> None:
    """Go down level by level, if there are brackets enough for too many."""
    level, depth = [value] if n_brackets > MAX_DEPTH else [], 0
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} levels deep")
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def parse(text: str, *, file: Path | str, line: int | None = None, field: str | None = None) -> Any:
    """One strict JSON value. Raises ``DataError`` with the place and the column."""
    try:
        value = _DECODER.decode(text)
        _refuse_depth(value, text.count("{") + text.count("["))
        return value
    except json.JSONDecodeError as error:
        message = f"not JSON: {_said(error)} at column {error.colno}"
    except RecursionError:
        message = f"nested more than {MAX_DEPTH} levels deep"
    except ValueError as error:  # ours, and Python's limit on the digits of an integer
        message = str(error)
    raise DataError(message, file=file, line=line, field=field)


def _said(error: json.JSONDecodeError) -> str:
    return error.msg[0].lower() + error.msg[1:].removesuffix(" at")


def read_lines(path: Path) -> Iterator[Numbered]:
    """One value a line; empty lines are passed over."""
    for number, line in text_lines(path):
        if line.strip(" \t\r\n"):
            yield number, parse(line.rstrip(), file=path, line=number)


def read_values(path: Path) -> Iterator[Numbered]:
    """The rows of a ``.json`` file, whatever holds them."""
    stream = _Stream(path)
    if stream.peek() == "[":
        yield from stream.array()
        return
    values = stream.sequence()
    first = next(values, None)
    if first is None:
        return
    second = next(values, None)
    if second is None and isinstance(first[1], dict):
        yield from _unwrap(first[1], first[0])
        return
    yield first
    if second is not None:
        yield second
    yield from values


def first_row(path: Path) -> dict[str, Any]:
    """The first row of a ``.json`` or a ``.jsonl`` file; empty where that is no object, and for other files."""
    readers = {".jsonl": read_lines, ".json": read_values}
    if path.suffix not in readers or not path.is_file():
        return {}
    _, first = next(readers[path.suffix](path), (None, None))
    return first if isinstance(first, dict) else {}


def _unwrap(value: dict[str, Any], line: int | None) -> Iterator[Numbered]:
    """Rows of a single object: its one list of objects, its values if all are objects, or itself."""
    lists = [inner for inner in value.values() if _is_rows(inner)]
    others = [inner for inner in value.values() if isinstance(inner, (list, dict)) and not _is_rows(inner)]
    looks_like_a_row = any(key in value for key in ("messages", "conversations", "instances"))
    if len(lists) == 1 and not others and not looks_like_a_row:
        yield from ((None, row) for row in lists[0])
    elif len(value) > 1 and all(isinstance(inner, dict) for inner in value.values()):
        yield from ((None, row) for row in value.values())
    else:
        yield line, value


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


class _Stream:
    """A window over the file's text. It grows until the value at its start is whole, then moves on."""

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.column = path, 1, 1
        self._chunks, self._text, self._at = text_chunks(path), "", 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            end = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            self._skip(end)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def array(self) -> Iterator[Numbered]:
        """The values of the array that begins here; nothing may follow it."""
        self._skip(self._at + 1)
        more = self.peek() != "]"
        while more:
            yield self._value()
            mark = self.peek()
            if mark not in (",", "]"):
                raise self._error(f"expected ',' or ']' after a row, not {mark!r}" if mark else "cut off")
            more = mark == ","
            if more:
                self._skip(self._at + 1)
        self._skip(self._at + 1)
        if rest := self.peek():
            raise self._error(f"{rest!r} after the end of the array")

    def sequence(self) -> Iterator[Numbered]:
        """Values one after another until the file ends."""
        while self.peek():
            yield self._value()

    def _value(self) -> Numbered:
        self.peek()
        line = self.line
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                _refuse_depth(value, self._count("{", end) + self._count("[", end))
            except json.JSONDecodeError as error:
                beyond = error.pos - self._at
                if not self._may_be_cut(error) or not self._grow():
                    raise self._error(f"not JSON: {_said(error)}", beyond) from error
                continue
            except RecursionError:
                raise self._error(f"nested more than {MAX_DEPTH} levels deep") from None
            except ValueError as error:
                raise self._error(str(error)) from error
            if end == len(self._text) and self._grow():
                continue  # a number may go on in the next piece
            self._skip(end)
            return line, value

    def _count(self, character: str, end: int) -> int:
        return self._text.count(character, self._at, end)

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _LONGEST_TOKEN

    def _grow(self) -> bool:
        """Read as much again as the window holds, so that a long row is parsed a few times only."""
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > MAX_ROW_CHARACTERS:
            raise self._error(f"a row of more than {MAX_ROW_CHARACTERS >> 20} Mi characters")
        wanted, parts = max(1, len(self._text)), []
        while wanted > 0 and (chunk := next(self._chunks, "")):
            parts.append(chunk)
            wanted -= len(chunk)
        self._text += "".join(parts)
        return bool(parts)

    def _skip(self, end: int) -> None:
        last_break = self._text.rfind("\n", self._at, end)
        self.line += self._text.count("\n", self._at, end)
        self.column = end - last_break if last_break >= 0 else self.column + end - self._at
        self._at = end

    def _error(self, message: str, beyond: int = 0) -> DataError:
        """An error ``beyond`` characters after the start of the value."""
        self._skip(self._at + beyond)
        return DataError(f"{message} at column {self.column}", file=self.path, line=self.line)
