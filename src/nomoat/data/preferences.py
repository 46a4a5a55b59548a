"""Pairs of a better and a worse answer, from every dialect in which people publish them.

Read: ``prompt``/``chosen``/``rejected`` as text or as messages (TRL), whole dialogues that part at the last answer
(Anthropic's HH-RLHF), conversations with two replies (LLaMA-Factory), two answers with the name of the better one,
ranked lists, and Open Assistant's trees, of which every two neighbours by rank become a pair.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from nomoat.core.errors import DataError
from nomoat.core.files import disk_errors
from nomoat.data.convert import Raw, field_text
from nomoat.data.messages import conversation
from nomoat.data.rows import Message, Place, check_text
from nomoat.data.sources import find

_PROMPTS = ("prompt", "instruction", "question", "query")
_TWO = (("chosen", "rejected"), ("response_j", "response_k"))
_NAMED = (("reply_a", "reply_b"), ("response_a", "response_b"), ("output_1", "output_2"), ("answer_a", "answer_b"))
_WHICH = ("inferred_chosen", "chosen", "preference", "preferred", "winner", "label")
_FIRST = frozenset({"a", "1", "model_a", "output_1", "response_a", "reply_a", "first"})
_SECOND = frozenset({"b", "2", "model_b", "output_2", "response_b", "reply_b", "second"})
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_DEEPEST_TREE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """A conversation that ends with the user, the better answer to it, and the worse one."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str


def read_preferences(path: Path | str) -> list[Preference]:
    """All pairs of a file or a folder, in order; pairs of equal answers are left out.

    Raises ``DataError`` at the first row that holds no pair, and where there is none at all.
    """
    path = Path(path).expanduser()
    with disk_errors(path):
        sources = find(path).sources
    pairs: list[Preference] = []
    for source in sources:
        for row, (line, raw) in enumerate(source.raw_rows(), start=1):
            place = Place(str(source.path), line, row)
            if not isinstance(raw, dict):
                raise place.error(f"a row must be an object, not {type(raw).__name__}")
            pairs += [pair for pair in preferences_of(raw, place) if pair.chosen != pair.rejected]
    if not pairs:
        raise DataError("holds no pairs of a better and a worse answer", file=path)
    return pairs


def preferences_of(raw: Raw, place: Place) -> list[Preference]:
    """The pairs of one row. Raises ``DataError`` where it has none.

    Two conversations that part before their last answers compare answers to different questions: they are no pair.
    """
    for better, worse in _TWO:
        if raw.get(better) is not None and raw.get(worse) is not None:
            return _pair(raw, raw[better], raw[worse], (better, worse), place)
    for first, second in _NAMED:
        if raw.get(first) is not None and raw.get(second) is not None:
            better, worse = _in_order(raw, first, second, place)
            return _pair(raw, raw[better], raw[worse], (better, worse), place)
    if isinstance(raw.get("output"), list):
        ranked = [check_text(str(each), place, "output") for each in raw["output"]]
        asked = tuple(_asked(raw, place))
        return [Preference(asked, better, worse) for better, worse in pairwise(ranked)]
    if isinstance(raw.get("prompt"), dict) and "replies" in raw["prompt"]:
        return list(_tree(raw["prompt"], (), place, 0))
    raise place.error(
        "holds no pair of answers", hint='a row may be {"prompt": "...", "chosen": "...", "rejected": "..."}'
    )


def _in_order(raw: Raw, first: str, second: str, place: Place) -> tuple[str, str]:
    """The two fields, the better one first, by the field that names it."""
    field = next((each for each in _WHICH if raw.get(each) is not None), None)
    if field is None:
        raise place.error(
            f"does not say which of {first!r} and {second!r} is better", hint=f"add a field {_WHICH[2]!r}"
        )
    word = str(raw[field]).strip().lower()
    if word in _FIRST:
        return first, second
    if word in _SECOND:
        return second, first
    raise place.error(f"{raw[field]!r} names neither {first!r} nor {second!r}", field=field)


def _pair(raw: Raw, better: Any, worse: Any, fields: tuple[str, str], place: Place) -> list[Preference]:
    if isinstance(better, list) and isinstance(worse, list):
        return _parted(
            _given(raw, place), conversation(better, place, fields[0]), conversation(worse, place, fields[1])
        )
    if isinstance(better, dict) and isinstance(worse, dict):
        said = [conversation([each], place, field)[0]["content"] for each, field in zip((better, worse), fields)]
        return [Preference(tuple(_asked(raw, place)), said[0], said[1])]
    chosen, rejected = field_text(raw, fields[0], place), field_text(raw, fields[1], place)
    if not _has_prompt(raw):
        return _parted([], _dialogue(chosen, place, fields[0]), _dialogue(rejected, place, fields[1]))
    return [Preference(tuple(_asked(raw, place)), chosen, rejected)]


def _parted(asked: list[Message], better: list[Message], worse: list[Message]) -> list[Preference]:
    """Two conversations that differ in their last turn; nothing of two that part earlier."""
    before = better[:-1]
    if worse[:-1] != before:
        return []
    if asked and before[: len(asked)] == asked:
        asked = []
    return [Preference((*asked, *before), str(better[-1]["content"]), str(worse[-1]["content"]))]


def _dialogue(text: str, place: Place, field: str) -> list[Message]:
    """``\\n\\nHuman: ...\\n\\nAssistant: ...`` as messages."""
    parts = _TURN.split(text)
    if len(parts) < 5 or parts[-2] != "Assistant":
        raise place.error("there is no prompt, and this is no dialogue that ends with the assistant", field=field)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2])]


def _has_prompt(raw: Raw) -> bool:
    return any(raw.get(field) is not None for field in (*_PROMPTS, "messages", "conversations"))


def _given(raw: Raw, place: Place) -> list[Message]:
    return _asked(raw, place) if _has_prompt(raw) else []


def _asked(raw: Raw, place: Place) -> list[Message]:
    """The conversation up to the answers."""
    for field in ("messages", "conversations", "prompt"):
        if isinstance(raw.get(field), list):
            return conversation(raw[field], place, field)
    field = next((each for each in _PROMPTS if raw.get(each) is not None), "prompt")
    words = [field_text(raw, field, place)]
    words += [field_text(raw, "input", place)] if raw.get("input") else []
    return [{"role": "user", "content": "\n".join(part for part in words if part)}]


def _tree(node: Any, above: tuple[Message, ...], place: Place, depth: int) -> Iterator[Preference]:
    """Neighbours by rank among the replies to every prompter's message; rank 0 is the best."""
    if depth > _DEEPEST_TREE:
        raise place.error(f"a tree of more than {_DEEPEST_TREE} turns")
    if not isinstance(node, dict) or not isinstance(node.get("text"), str) or not isinstance(node.get("replies"), list):
        raise place.error("a message of the tree has no 'text' and 'replies'", field="prompt")
    is_user = node.get("role") in ("prompter", "user", "human")
    asked = (*above, {"role": "user" if is_user else "assistant", "content": check_text(node["text"], place, "text")})
    replies = [each for each in node["replies"] if isinstance(each, dict)]
    ranked = [each for each in replies if isinstance(each.get("rank"), int) and isinstance(each.get("text"), str)]
    if is_user:
        texts = [check_text(each["text"], place, "text") for each in sorted(ranked, key=lambda each: each["rank"])]
        yield from (Preference(asked, better, worse) for better, worse in pairwise(texts))
    for each in replies:
        yield from _tree(each, asked, place, depth + 1)
