"""Calls read from an answer while it streams: text goes on at once, what may be a call waits until it is whole.

What looks like a call and is not (broken JSON, a function that is not offered) is given out as text.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from nomoat.serve.tools import Format

MAX_CALLS = 64
_OPENERS: dict[Format, tuple[str, ...]] = {
    "hermes": ("<tool_call>",),
    "mistral": ("[TOOL_CALLS]",),
    "llama": ("<|python_tag|>",),
    "json": ("<tool_call>",),
}
_MARKERS = ("[TOOL_CALLS]", "[ARGS]")
_START = re.compile(r"\[TOOL_CALLS\]|\[ARGS\]|[\[{]")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call; ``arguments`` is a JSON object as text, as OpenAI has it."""

    name: str
    arguments: str


class CallReader:
    """Takes text as it comes; gives out text that is certain, and calls once they are whole."""

    def __init__(self, form: Format, names: Collection[str]) -> None:
        self._form, self._names = form, frozenset(names)
        self._openers = _OPENERS[form]
        self._pending = ""
        self._holding = False
        self._said = False

    def push(self, text: str) -> str:
        """Add text; return what is certainly no call."""
        self._pending += text
        if self._holding:
            return ""
        if not self._said:  # a call may stand bare at the beginning, whatever the format
            start = self._pending.lstrip()
            if not start:
                return ""
            if start[0] in "{[" or any(word.startswith(start) for word in self._openers):
                self._holding = True
                return ""
        return self._release()

    def finish(self) -> tuple[str, list[Call]]:
        """The answer has ended: the rest of the text, and its calls."""
        rest, self._pending = self._pending, ""
        if not self._holding:
            return rest, []
        found = read_calls(rest, self._form)
        if not found or any(call.name not in self._names for call in found):
            return rest, []
        return _text_before(rest, self._openers), found

    def _release(self) -> str:
        """Text up to where a call may begin."""
        at = min((place for word in self._openers if (place := self._pending.find(word)) >= 0), default=-1)
        if at >= 0:
            self._holding = True
        else:
            at = len(self._pending) - _held_back(self._pending, self._openers)
        certain, self._pending = self._pending[:at], self._pending[at:]
        self._said = self._said or bool(certain.strip())
        return certain


def read_calls(text: str, form: Format) -> list[Call]:
    """The calls in a whole answer, in order; none where one of them is broken."""
    calls: list[Call] = []
    for value in _values(text, form):
        entries = value if isinstance(value, list) else [value]
        read = [call for entry in entries if (call := _call(entry)) is not None]
        if not entries or len(read) < len(entries):
            return []
        calls += read
    return calls[:MAX_CALLS]


def _values(text: str, form: Format) -> Iterator[Any]:
    """The JSON values in ``text``, markers and white space between them skipped; None for a broken one, the last."""
    decoder, at, name_from = json.JSONDecoder(), 0, 0
    while (match := _START.search(text, at)) is not None:
        at = match.end()
        if match[0] in _MARKERS:
            name_from = at if match[0] == _MARKERS[0] else name_from
            continue
        try:
            value, at = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            yield None
            return
        name = text[name_from : match.start()].replace(_MARKERS[1], "").strip()
        yield {"name": name, "arguments": value} if form == "mistral" and _NAME.fullmatch(name) else value
        name_from = at


def _call(value: Any) -> Call | None:
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict):
        value = value["function"]
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value.get("name"), str) or not isinstance(arguments, dict):
        return None
    return Call(value["name"], json.dumps(arguments, ensure_ascii=False))


def _text_before(text: str, openers: tuple[str, ...]) -> str:
    places = [place for word in (*openers, "{", "[") if (place := text.find(word)) >= 0]
    return text[: min(places)].strip() if places else ""


def _held_back(text: str, openers: tuple[str, ...]) -> int:
    """The length of the longest end of ``text`` that begins an opener."""
    longest = min(len(text), max(map(len, openers)) - 1)
    ends = (length for length in range(longest, 0, -1) if any(word.startswith(text[-length:]) for word in openers))
    return next(ends, 0)
