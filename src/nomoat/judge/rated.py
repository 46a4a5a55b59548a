"""Rated answers: an answer and the score it deserves, perhaps by a rubric. Two of one question make a labelled pair.

Read: Prometheus's test sets, one text with ``###`` sections beside ``gpt4_score``, and its results with ``input``,
``response``, ``reference_answer``, ``score_rubric`` and ``score`` (Kim et al. 2024, arXiv 2310.08491, appendix);
Auto-J's ``usrmsg`` between ``[BEGIN DATA]`` and ``[END DATA]`` with a critique that ends in ``[[rating]]`` (Li et al.
2023, arXiv 2310.05470); plain rows of ``prompt``, ``answer`` and ``score``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import DataError
from nomoat.data.json_files import first_row, read_lines, read_values
from nomoat.data.preferences import Preference
from nomoat.data.rows import Place, check_text
from nomoat.judge.grading import Exhibit
from nomoat.judge.mt_bench import rating

_HEAD: Final = re.compile(r"^###([^:\n]+):[ \t]*", re.MULTILINE)
_DATA: Final = re.compile(r"\[Query\]: (.*?)\n\*\*\*\n\[Response\]: (.*)\n\*\*\*\n\[END DATA\]", re.DOTALL)
_PARTS: Final = ("The instruction to evaluate", "Response to evaluate")


@dataclasses.dataclass(frozen=True, slots=True)
class Rated:
    """An answer to rate, and its score by the label."""

    exhibit: Exhibit
    score: float


def holds_ratings(path: Path) -> bool:
    """Whether a file's first row is a rated answer, not a pair of answers."""
    first = first_row(path)
    one = any(field in first for field in ("response", "answer")) and "score" in first
    return "gpt4_score" in first or "usrmsg" in first or one


def rated_pairs(path: Path) -> list[Preference]:
    """Every two neighbours by score among the answers to one question; equal scores make none.

    Raises ``DataError`` where no question has two answers of different scores.
    """
    rated = read_rated(path)
    asked: dict[str, list[Rated]] = {}
    for each in rated:
        asked.setdefault(repr((each.exhibit.messages, each.exhibit.rubric)), []).append(each)
    pairs = []
    for answers in asked.values():
        ranked = sorted(answers, key=lambda each: -each.score)
        for better, worse in itertools.pairwise(ranked):
            if better.score > worse.score:
                pairs.append(Preference(better.exhibit.messages, better.exhibit.answer, worse.exhibit.answer))
    if not pairs:
        raise DataError(
            f"{len(rated)} rated answers, and no question has two of different scores",
            file=path,
            hint="nomoat grade --scores compares a judge's ratings with them",
        )
    return pairs


def read_rated(path: Path) -> list[Rated]:
    """All rated answers of a file. Raises ``DataError`` with the row."""
    found = []
    reader = read_lines if path.suffix == ".jsonl" else read_values
    for number, (line, raw) in enumerate(reader(path), start=1):
        place = Place(str(path), line, number)
        if not isinstance(raw, dict):
            raise place.error("must be an object")
        kind = _sections if "gpt4_score" in raw else _critique if "usrmsg" in raw else _record
        found.append(kind(raw, place))
    if not found:
        raise DataError("holds no rated answers", file=path)
    return found


def _sections(raw: dict[str, Any], place: Place) -> Rated:
    text = _text(raw.get("instruction"), "instruction", place)
    pieces = _HEAD.split(text)
    parts = {name.strip(): body.strip() for name, body in zip(pieces[1::2], pieces[2::2])}
    for name in _PARTS:
        if name not in parts:
            raise place.error(f"has no section ###{name}:", field="instruction")
    reference = next((body for name, body in parts.items() if name.startswith("Reference Answer")), "")
    asked = ({"role": "user", "content": parts[_PARTS[0]]},)
    exhibit = Exhibit(asked, parts[_PARTS[1]], reference, parts.get("Score Rubrics", ""))
    return Rated(exhibit, _score(raw["gpt4_score"], "gpt4_score", place))


def _critique(raw: dict[str, Any], place: Place) -> Rated:
    match = _DATA.search(_text(raw["usrmsg"], "usrmsg", place))
    if match is None:
        raise place.error("has no [Query] and [Response]", field="usrmsg")
    score = rating(_text(raw.get("target_output"), "target_output", place))
    if score is None:
        raise place.error("ends in no [[rating]]", field="target_output")
    return Rated(Exhibit(({"role": "user", "content": match[1].strip()},), match[2].strip()), score)


def _record(raw: dict[str, Any], place: Place) -> Rated:
    prompt = _text(raw.get("input", raw.get("prompt")), "prompt", place)
    answer = _text(raw.get("response", raw.get("answer")), "answer", place)
    rubric = raw.get("score_rubric", raw.get("rubric", ""))
    if isinstance(rubric, dict):
        rubric = "\n".join(f"{name}: {text}" for name, text in rubric.items())
    exhibit = Exhibit(
        ({"role": "user", "content": prompt},),
        answer,
        _text(raw.get("reference_answer", ""), "reference_answer", place),
        _text(rubric, "rubric", place),
    )
    return Rated(exhibit, _score(raw.get("score"), "score", place))


def _score(value: Any, field: str, place: Place) -> float:
    """A number, or the mean of a list of them, which the test sets write as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise place.error("must be a number, or a list of numbers", field=field) from None
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers):
        raise place.error("must be a number, or a list of numbers", field=field)
    return sum(map(float, numbers)) / len(numbers)


def _text(value: Any, field: str, place: Place) -> str:
    if not isinstance(value, str):
        raise place.error("must be text", field=field)
    return check_text(value, place, field)
