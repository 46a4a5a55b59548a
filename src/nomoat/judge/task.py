"""Held-out rows made ready to judge: which rows, which check, and what the model is given for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Parent, Store, read_lineage
from nomoat.data.encode import EncodedSet, encode_row, encode_rows
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.load import load_rows
from nomoat.data.read import read
from nomoat.data.rows import Row
from nomoat.engine.names import Worn
from nomoat.judge.checks import Check, make_check
from nomoat.judge.options import JudgeOptions
from nomoat.judge.pick import CheckChoice, pick_check
from nomoat.judge.questions import Question, question, with_answer
from nomoat.model.load import Base
from nomoat.model.template import Encoded

MOST_CHOICES = 100
_ROOM_FOR_AN_ANSWER = 16
_SHORTEST_FREE_ANSWER = 256


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows to judge on, and where they come from."""

    rows: list[Row]
    name: str
    split: str


def data_of(store: Store, worn: Worn) -> str:
    """The data set that the last adapter was trained on, by its lineage. Raises ``UsageError`` where none is named."""
    for adapter, _ in reversed(worn):
        for parent in _parents(store, adapter.name):
            if parent.kind == "data" and parent.name in store.names("data"):
                return parent.name
    raise UsageError("no adapter of the stack says what it was trained on", hint="--data NAME, or a file of rows")


def _parents(store: Store, adapter: str) -> Sequence[Parent]:
    lineage = read_lineage(store.path("adapters", adapter)) if adapter in store.names("adapters") else None
    return lineage.parents if lineage is not None else ()


def held_out(store: Store, data: str, limit: int) -> HeldOut:
    """The test rows of a data set; of a file or folder its test part, or all of it where it names none.

    Raises ``NotFound`` where there is nothing of that name, or no row.
    """
    path = Path(data).expanduser()
    if data in store.names("data") or not path.exists():
        rows, name, split = load_rows(store.find_data(data), "test"), data, "test"
    else:
        splits = read(path).splits
        split = "test" if splits.get("test") else "all"
        found = splits["test"] if split == "test" else [row for part in splits.values() for row in part]
        rows, name = found, path.name
    if not rows:
        raise NotFound(
            f"{data} has no held-out rows",
            hint="ten rows or more leave some to judge with: nomoat data add OLD MORE --name NAME --replace; "
            "or give a file of rows that training never saw",
        )
    return HeldOut(rows[:limit] if limit else rows, name, split)


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """The check, why it was chosen and by whom, and the allowed answers of a multiple choice."""

    check: Check
    why: str
    by: str
    choices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the result; ``choices`` are left out where there are none."""
        summary = {"name": self.check.name, "summary": self.check.summary, "why": self.why, "chosen_by": self.by}
        return {**summary, "choices": list(self.choices)} if self.choices else summary


def choose(options: JudgeOptions, rows: Sequence[Row]) -> Chosen:
    """The user's check, or the one that fits the rows. Raises ``UsageError`` where theirs cannot be used."""
    picked = pick_check(rows)
    if options.check == "auto":
        return Chosen(make_check(picked.name), picked.why, "nomoat", picked.choices)
    check = make_check(options.check, pattern=options.pattern, tolerance=options.tolerance)
    if check.needs != "losses" and not _questions(rows):
        raise UsageError(f"the check {options.check!r} needs answers, and these rows have none", hint="--check loss")
    return Chosen(check, "you asked for it", "user", _choices(check, picked, rows))


def _choices(check: Check, picked: CheckChoice, rows: Sequence[Row]) -> tuple[str, ...]:
    if check.needs != "choices":
        return ()
    found = picked.choices or tuple(dict.fromkeys(asked.expected.strip() for asked in _questions(rows)))
    if not 2 <= len(found) <= MOST_CHOICES:
        raise UsageError(
            f"the rows have {len(found)} different answers; a multiple choice has 2 to {MOST_CHOICES}",
            hint="--check normalised",
        )
    return found


def _questions(rows: Sequence[Row]) -> list[Question]:
    return [asked for row in rows if (asked := question(row)) is not None]


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """Rows as the model gets them. ``encoded`` holds the parts of each row (a long text has several).

    ``numbers`` are the rows' places in the file, from 0; ``skipped`` counts rows that are not judged, by reason.
    """

    numbers: list[int]
    rows: list[Row]
    encoded: list[list[Encoded]]
    max_tokens: int
    skipped: dict[str, int]
    encoding: EncodeOptions

    @property
    def prompts(self) -> list[list[int]]:
        """Token ids that the answers go on from."""
        return [prompt_of(parts[0]) for parts in self.encoded]


def make_task(options: JudgeOptions, rows: list[Row], chosen: Chosen, base: Base, encoding: EncodeOptions) -> Task:
    """Encode the rows as training did. Raises ``UsageError`` where none can be judged."""
    found = encode_rows(rows, base.tokenizer, base.template, encoding)
    parts, skipped = _by_row(found), dict(found.dropped)
    if chosen.check.needs != "losses":
        asks_nothing = [number for number in parts if question(rows[number]) is None]
        parts = {number: encoded for number, encoded in parts.items() if number not in asks_nothing}
        skipped |= {"there is no answer to compare": len(asks_nothing)} if asks_nothing else {}
    if not parts:
        raise UsageError("not one held-out row can be judged: " + "; ".join(skipped))
    return Task(
        numbers=list(parts),
        rows=[rows[number] for number in parts],
        encoded=list(parts.values()),
        max_tokens=options.max_tokens or _longest_answer(chosen.check, list(parts.values())),
        skipped=skipped,
        encoding=encoding,
    )


def _by_row(found: EncodedSet) -> dict[int, list[Encoded]]:
    parts: dict[int, list[Encoded]] = {}
    for number, encoded in zip(found.sources, found.rows):
        parts.setdefault(number, []).append(encoded)
    return parts


def encoding_of(store: Store, base: Base, worn: Worn) -> EncodeOptions:
    """How the last adapter's rows were encoded, by its lineage; only the base's context bounds their length."""
    chat = "auto"
    for adapter, _ in worn:
        known = adapter.name in store.names("adapters")
        lineage = read_lineage(store.path("adapters", adapter.name)) if known else None
        chat = str(lineage.options.get("chat", chat)) if lineage is not None else chat
    return EncodeOptions(max_seq_len=base.decoder.config.max_seq_len, chat=chat)


def prompt_of(encoded: Encoded) -> list[int]:
    """What generation starts from: everything before the last run of learned tokens."""
    end = len(encoded.loss_mask)
    while end and not encoded.loss_mask[end - 1]:
        end -= 1
    while end and encoded.loss_mask[end - 1]:
        end -= 1
    return encoded.ids[:end]


def with_choices(task: Task, choices: Sequence[str], base: Base) -> list[Encoded]:
    """Every row answered with every choice, row by row."""
    return [
        encode_row(with_answer(row, choice), base.tokenizer, base.template, task.encoding, number=number)
        for number, row in zip(task.numbers, task.rows)
        for choice in choices
    ]


def _longest_answer(check: Check, encoded: list[list[Encoded]]) -> int:
    """Room for the longest expected answer; more where an answer may reason before it is compared."""
    longest = max(len(parts[0].ids) - len(prompt_of(parts[0])) for parts in encoded)
    room = longest + _ROOM_FOR_AN_ANSWER
    return room if check.name in ("exact", "normalised") else max(_SHORTEST_FREE_ANSWER, 2 * room)
