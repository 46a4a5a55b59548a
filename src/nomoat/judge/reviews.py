"""Reviews in the format of the Vicuna blog of 2023, recomputed with intervals.

A folder of ``answer*.jsonl`` (``answer_id``, ``model_id``, ``question_id``) and ``review*.jsonl`` (``answer1_id``,
``answer2_id``, ``score``: two numbers). A model's relative score is the ratio of the two totals, in percent of the
other's; where two models met only through a third, the ratios are multiplied, as the blog did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nomoat.core.errors import DataError, NotFound
from nomoat.data.json_files import read_lines
from nomoat.data.rows import Place
from nomoat.judge.statistics import Floats, Interval

_RESAMPLES: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Review:
    """One pair of answers to one question, scored; ``first`` stood first in what the judge read."""

    question: int
    first: str
    second: str
    first_score: float
    second_score: float


@dataclasses.dataclass(frozen=True, slots=True)
class Relative:
    """``model``'s total in parts of ``reference``'s; ``via`` names the model in between, empty where they met."""

    model: str
    reference: str
    share: Interval
    questions: int
    via: str = ""


def read_reviews(folder: Path) -> list[Review]:
    """All reviews of a folder. Raises ``NotFound``, and ``DataError`` naming the line that is wrong."""
    answers = {}
    for path in sorted(folder.glob("**/*answer*.jsonl")):
        for line, raw in read_lines(path):
            place = Place(str(path), line, line)
            answers[_text(raw, "answer_id", place)] = _text(raw, "model_id", place)
    reviews = []
    for path in sorted(folder.glob("**/*review*.jsonl")):
        for line, raw in read_lines(path):
            if isinstance(raw, dict) and "score" in raw:
                reviews.append(_review(raw, answers, Place(str(path), line, line)))
    if not reviews:
        raise NotFound(f"{folder} holds no reviews", hint="a folder of answer*.jsonl and review*.jsonl files")
    return reviews


def _review(raw: dict[str, Any], answers: dict[str, str], place: Place) -> Review:
    score = raw["score"]
    if not (isinstance(score, list) and len(score) == 2 and all(isinstance(each, (int, float)) for each in score)):
        raise place.error("must be two numbers", field="score")
    if not isinstance(raw.get("question_id"), int):
        raise place.error("must be a whole number", field="question_id")
    names = []
    for field in ("answer1_id", "answer2_id"):
        answer = _text(raw, field, place)
        if answer not in answers:
            raise place.error(f"there is no answer {answer!r} in the folder", field=field)
        names.append(answers[answer])
    return Review(raw["question_id"], names[0], names[1], float(score[0]), float(score[1]))


def _text(raw: Any, field: str, place: Place) -> str:
    if not isinstance(raw, dict) or not isinstance(raw.get(field), str):
        raise place.error("must be text", field=field)
    return str(raw[field])


def relative(reviews: Sequence[Review], model: str, reference: str, *, seed: int = 0) -> Relative:
    """How ``model`` fares against ``reference``, directly or through one model that met both.

    The interval resamples questions; through a third model both comparisons share the resampled questions. Raises
    ``DataError`` where the two cannot be compared.
    """
    direct = _meetings(reviews, model, reference)
    if direct:
        totals = [_by_question(direct, model)]
        return Relative(model, reference, _interval(totals, seed), len(direct))
    ways = [via for via in _opponents(reviews, model) if _meetings(reviews, via, reference)]
    if not ways:
        raise DataError(f"{model} and {reference} never met, nor did both meet a third", hint="review one more pair")
    via = max(ways, key=lambda name: len(_meetings(reviews, name, reference)))
    legs = [_by_question(_meetings(reviews, model, via), model), _by_question(_meetings(reviews, via, reference), via)]
    return Relative(model, reference, _interval(legs, seed), min(len(leg) for leg in legs), via)


def never_swapped(reviews: Sequence[Review]) -> list[tuple[str, str]]:
    """The pairs that a judge saw in one order only: there the place's worth and the model's cannot be told apart."""
    orders = dict.fromkeys((review.first, review.second) for review in reviews)
    return [(first, second) for first, second in orders if (second, first) not in orders]


def repeated(reviews: Sequence[Review], model: str) -> list[float]:
    """Totals that the same answers of ``model`` got beside different opponents, on the questions all have in common.

    Their spread is what the judge's mood and the company are worth.
    """
    sides = [_by_question(_meetings(reviews, model, other), model) for other in _opponents(reviews, model)]
    common = set.intersection(*(set(side) for side in sides)) if sides else set()
    return [sum(side[question][0] for question in common) for side in sides]


def _opponents(reviews: Sequence[Review], model: str) -> list[str]:
    met = {review.second if review.first == model else review.first for review in reviews if model in _names(review)}
    return sorted(met)


def _names(review: Review) -> tuple[str, str]:
    return review.first, review.second


def _meetings(reviews: Sequence[Review], one: str, other: str) -> list[Review]:
    return [review for review in reviews if {one, other} == {review.first, review.second}]


def _by_question(meetings: Sequence[Review], model: str) -> dict[int, tuple[float, float]]:
    """By question, ``model``'s score and its opponent's."""
    found: dict[int, tuple[float, float]] = {}
    for review in meetings:
        scores = (review.first_score, review.second_score)
        own, theirs = scores if review.first == model else scores[::-1]
        before = found.get(review.question, (0.0, 0.0))
        found[review.question] = (before[0] + own, before[1] + theirs)
    return found


def _interval(legs: Sequence[dict[int, tuple[float, float]]], seed: int) -> Interval:
    """Product of the legs' ratios of totals, with a percentile interval over resampled questions."""
    questions = sorted(set.intersection(*(set(leg) for leg in legs)))
    scores: Floats = np.array([[leg[question] for question in questions] for leg in legs])  # (legs, n, 2)
    picks = np.random.default_rng(seed).integers(0, len(questions), (_RESAMPLES, len(questions)))
    draws = np.ones(_RESAMPLES)
    value = 1.0
    for leg in scores:
        totals = leg[picks].sum(axis=1)  # (resamples, 2)
        draws *= totals[:, 0] / totals[:, 1]
        value *= float(leg[:, 0].sum() / leg[:, 1].sum())
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value, float(low), float(high))
