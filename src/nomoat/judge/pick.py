"""Which check fits these rows, and why: said in words, so that the user can choose otherwise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nomoat.data.rows import Row
from nomoat.judge.answers import normalise, only_a_number
from nomoat.judge.questions import question

MOST = 0.95
SMALL_SET = 12
REPEATS = 3
SHORT_WORDS = 6
FORMAL_CHARACTERS = 400

_SQL = r"select\s.+\sfrom\s.+|insert\s+into\s.+|update\s.+\sset\s.+|delete\s+from\s.+|create\s+(?:table|index|view)\s.+"
_CODE = r"[{\[<].+[}\]>]|.*(?:[=!<>]=|\(\)|->|=>|\s=\s|\);$).*"
_FORMAL = re.compile(f"{_SQL}|{_CODE}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CheckChoice:
    """The check's name, the reason, and the allowed answers where they were found to be a small set."""

    name: str
    why: str
    choices: tuple[str, ...] = ()


def pick_check(rows: Sequence[Row]) -> CheckChoice:
    """Choose a check for the rows: choices, numbers, short or formal answers to match, else held-out loss."""
    questions = [found for row in rows if (found := question(row)) is not None]
    if len(questions) < MOST * len(rows) or not questions:
        return CheckChoice("loss", "the rows are plain text, with no answers to compare")
    answers = [asked.expected.strip() for asked in questions]
    if _share(answers, _ends_in_number) >= MOST:
        return CheckChoice("number", "the expected answers are numbers")
    small_set = _small_set(answers)
    if small_set:
        shown = ", ".join(repr(answer) for answer in small_set[:4]) + (", ..." if len(small_set) > 4 else "")
        why = f"the expected answers are {len(small_set)} that repeat: {shown}"
        return CheckChoice("choice", why, small_set)
    if _share(answers, _is_formal) >= MOST:
        return CheckChoice("exact", "the expected answers are one line of code or data, where every sign counts")
    if _share(answers, _is_short) >= MOST:
        return CheckChoice("normalised", f"the expected answers are short (at most {SHORT_WORDS} words)")
    return CheckChoice(
        "loss", "the expected answers are free text: many right answers would not match them word for word"
    )


def _share(answers: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(holds(answer) for answer in answers) / len(answers)


def _ends_in_number(answer: str) -> bool:
    """A number alone, or worked steps that end in ``#### 42`` (the notation of GSM8K)."""
    _, marker, tail = answer.rpartition("####")
    return only_a_number(tail if marker else answer)


def _small_set(answers: Sequence[str]) -> tuple[str, ...]:
    """The distinct answers, commonest first, if they are few, short and each repeats; else nothing."""
    counts = Counter(answers)
    few = 2 <= len(counts) <= SMALL_SET and len(answers) >= REPEATS * len(counts)
    if not few or not all(_is_short(answer) for answer in counts):
        return ()
    if len({normalise(answer) for answer in counts}) < len(counts):
        return ()
    return tuple(answer for answer, _ in counts.most_common())


def _is_short(answer: str) -> bool:
    return 0 < len(answer.split()) <= SHORT_WORDS and "\n" not in answer


def _is_formal(answer: str) -> bool:
    """One line of SQL, JSON, markup or code."""
    return len(answer) <= FORMAL_CHARACTERS and _FORMAL.fullmatch(answer) is not None
