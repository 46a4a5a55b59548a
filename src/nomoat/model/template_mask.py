"""Which characters of a rendered conversation the assistant said.

Where the template says so itself (``{% generation %}``), its word holds. Otherwise each message is marked with two
private-use characters that no text here uses, and the conversation is rendered a second time. If that rendering,
with the marks taken out, is the first one letter by letter, then the marks stand where the messages stand; if not,
the template looks into what it prints, a weaker set of marks is tried, and in the end the answer is an error, never
a guess.

A turn reaches from where the template hands over to the model (its generation prompt) to the end-of-turn token.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nomoat.core.errors import TemplateError

Message: TypeAlias = dict[str, Any]
Span: TypeAlias = tuple[int, int]
Render: TypeAlias = Callable[[Sequence[Message], bool], str]

_FIRST_PRIVATE, _LAST_PRIVATE = 0xF0000, 0x10FFFD
_PRIVATE = re.compile("[\U000f0000-\U0010fffd]")


@dataclass(frozen=True, slots=True)
class Marks:
    """``n`` pairs of characters from ``base`` on."""

    base: int
    n: int

    def pair(self, i: int) -> tuple[str, str]:
        return chr(self.base + 2 * i), chr(self.base + 2 * i + 1)

    def taken_out(self, text: str) -> tuple[str, list[list[int]]]:
        """The text without marks, and where each mark stood in it: opening and closing of 0, of 1, ..."""
        places: list[list[int]] = [[] for _ in range(2 * self.n)]
        parts: list[str] = []
        at = length = 0
        for mark in re.finditer(f"[{chr(self.base)}-{chr(self.base + 2 * self.n - 1)}]", text):
            parts.append(text[at : mark.start()])
            length += mark.start() - at
            places[ord(mark[0]) - self.base].append(length)
            at = mark.end()
        return "".join([*parts, text[at:]]), places


def free_marks(text: str, n: int) -> Marks:
    """``n`` pairs that ``text`` does not hold. Raises ``TemplateError`` when all are taken."""
    taken = {ord(letter) for letter in _PRIVATE.findall(text)}
    for base in range(_FIRST_PRIVATE, _LAST_PRIVATE - 2 * n, 2 * n):
        if taken.isdisjoint(range(base, base + 2 * n)):
            return Marks(base, n)
    raise TemplateError("the conversation uses up the private-use characters, none is left to mark its turns with")


def tagged_spans(text: str, marked: str, marks: Marks) -> list[Span]:
    """The spans between the marks that ``{% generation %}`` blocks left in ``marked``."""
    plain, places = marks.taken_out(marked)
    if plain != text or len(places[0]) != len(places[1]):
        raise TemplateError("the chat template changes what stands in its generation blocks")
    return list(zip(places[0], places[1], strict=True))


def turn_spans(render: Render, messages: Sequence[Message], text: str, ends: Sequence[str]) -> list[Span]:
    """One span for each assistant message, its end-of-turn token (one of ``ends``) included.

    ``text`` is ``render(messages, False)``. Raises ``TemplateError`` when a turn cannot be told exactly.
    """
    turns = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
    if not turns:
        return []
    places = _places(render, messages, text)
    finder = _Finder(render, messages, text, places, _handover(render, messages, turns[0], text))
    end_of_turn = re.compile("|".join(re.escape(end) for end in sorted(ends, key=len, reverse=True)) or "(?!)")
    spans = [(finder.start(i), finder.end(i, end_of_turn)) for i in turns]
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise TemplateError("the assistant's turns overlap in what the chat template writes")
    return spans


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the rendered text holds message ``i``: its beginning, if that is known, and all ends of its parts."""

    opening: list[list[int]]
    closing: list[list[int]]


def _places(render: Render, messages: Sequence[Message], text: str) -> _Places:
    marks = free_marks(text, len(messages))
    tried: list[list[Message]] = []
    for marked in _variants(messages, marks):
        if marked in tried:
            continue
        tried.append(marked)
        try:
            plain, places = marks.taken_out(render(marked, False))
        except TemplateError:
            continue  # a template that checks what a message says; a weaker marking may pass
        if plain == text:
            return _Places(places[0::2], places[1::2])
    raise TemplateError(
        "the chat template rewrites what the assistant says in a way that hides where its turns begin and end",
        hint="use a template with {% generation %} blocks, or leave out what it takes away, such as <think> parts",
    )


def _variants(messages: Sequence[Message], marks: Marks) -> Iterator[list[Message]]:
    """The conversation with marks, the most telling first."""
    for others, beginnings, outside in itertools.product((True, False), repeat=3):
        yield [
            _marked(message, marks.pair(i)[0] if ours and beginnings else "", marks.pair(i)[1], outside=outside)
            if (ours := message.get("role") == "assistant") or others
            else message
            for i, message in enumerate(messages)
        ]


def _marked(message: Message, opening: str, closing: str, *, outside: bool) -> Message:
    changed = dict(message)
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, str) and (content or not calls):
        changed["content"] = _around(content, opening, closing, outside=outside)
    elif isinstance(content, list):
        changed["content"] = _marked_parts(content, opening, closing, outside=outside)
    if isinstance(calls, list):
        changed["tool_calls"] = [_marked_call(call, closing) for call in calls]
    return changed


def _around(text: str, opening: str, closing: str, *, outside: bool) -> str:
    """Marks around the text, or inside its outer white space, so that a template that trims still does."""
    core = text.strip()
    if outside:
        return opening + text + closing
    if not core:
        return text + opening + closing
    start = text.index(core)
    return f"{text[:start]}{opening}{core}{closing}{text[start + len(core) :]}"


def _marked_parts(parts: list[Any], opening: str, closing: str, *, outside: bool) -> list[Any]:
    texts = [i for i, part in enumerate(parts) if isinstance(part, dict) and isinstance(part.get("text"), str)]
    changed = list(parts)
    for i in texts:
        first, last = opening if i == texts[0] else "", closing if i == texts[-1] else ""
        changed[i] = parts[i] | {"text": _around(parts[i]["text"], first, last, outside=outside)}
    return changed


def _marked_call(call: Any, closing: str) -> Any:
    """A mark after the name and after each text among the arguments; the last of them is the last thing said."""
    if not isinstance(call, dict):
        return call
    inner = call.get("function")
    if isinstance(inner, dict):
        return call | {"function": _marked_call(inner, closing)}
    return call | {key: _closed(call[key], closing) for key in ("name", "arguments") if key in call}


def _closed(value: Any, closing: str) -> Any:
    if isinstance(value, str):
        return value + closing
    if isinstance(value, dict):
        return {key: _closed(item, closing) for key, item in value.items()}
    if isinstance(value, list):
        return [_closed(item, closing) for item in value]
    return value


def _handover(render: Render, messages: Sequence[Message], first: int, text: str) -> str:
    """What ``add_generation_prompt`` writes; empty where the template has nothing for it."""
    before = messages[:first]
    try:
        plain, prompted = render(before, False), render(before, True)
    except TemplateError:  # a conversation without its first answer may be too short for the template
        plain, prompted = text, render(messages, True)
    return prompted[len(plain) :] if prompted.startswith(plain) else ""


@dataclass(frozen=True, slots=True)
class _Finder:
    render: Render
    messages: Sequence[Message]
    text: str
    places: _Places
    handover: str

    def start(self, i: int) -> int:
        """After the generation prompt, where there is one before this turn; else where the content begins."""
        opening, last = self.places.opening[i], self._last(i)
        if len(opening) > 1:
            raise TemplateError(f"the chat template writes message {i} more than once")
        before = max((at for places in self.places.closing[:i] for at in places if at <= last), default=0)
        limit = opening[0] if opening else last
        found = self._handed_over(before, limit, opened=bool(opening), sure=i > 0 and bool(self.places.closing[i - 1]))
        if found is not None:
            return found
        reasoning = self.messages[i].get("reasoning_content")
        hidden = isinstance(reasoning, str) and reasoning.strip() and reasoning.strip() in self.text[before:limit]
        if opening and not hidden:
            return opening[0]
        return self._where_words_differ(i, before, limit)

    def _where_words_differ(self, i: int, before: int, limit: int) -> int:
        """The first character that depends on what message ``i`` says: where other words change the text."""
        other = chr(_LAST_PRIVATE)
        changed = [*self.messages[:i], {"role": "assistant", "content": other}, *self.messages[i + 1 :]]
        pairs = zip(self.text, self.render(changed, False), strict=False)
        start = next((at for at, (ours, others) in enumerate(pairs) if ours != others), len(self.text))
        if other in self.text or not before <= start <= limit:
            raise TemplateError(f"the chat template does not show where the assistant's turn begins in message {i}")
        return start

    def _handed_over(self, before: int, limit: int, *, opened: bool, sure: bool) -> int | None:
        """The end of the generation prompt between what was said before and this turn's content.

        ``opened``: the content begins at ``limit``. ``sure``: nothing said stands between ``before`` and the turn.
        """
        first = self.text.find(self.handover, before, limit)
        if not self.handover or first < 0:
            return None
        closest = self.text.rfind(self.handover, before, limit)
        if first != closest and not sure:
            raise TemplateError("the generation prompt stands more than once before a turn of the assistant")
        return (closest if opened else first) + len(self.handover)

    def _last(self, i: int) -> int:
        if not self.places.closing[i]:
            raise TemplateError(
                f"the chat template leaves out what the assistant says in message {i}",
                hint="remove the empty or unused message, or use a template that writes it",
            )
        return max(self.places.closing[i])

    def end(self, i: int, end_of_turn: re.Pattern[str]) -> int:
        """The end of the first end-of-turn token after the turn, before anything that another message says."""
        last = self._last(i)
        later = [at for places in self.places.closing[i + 1 :] + self.places.opening[i + 1 :] for at in places]
        if later and min(later) < last:
            raise TemplateError(f"the chat template moves message {i} behind a later one")
        found = end_of_turn.search(self.text, last)
        if found is None or (later and found.end() > min(later)):
            raise TemplateError(
                f"the chat template ends the assistant's turn in message {i} without an end-of-turn token",
                hint="without one the model never learns to stop; use a template that writes one",
            )
        return found.end()
