"""The guard's own material is sound, and its words mean what they say."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import models
from nomoat.core.records import returned
from nomoat.core.store import Store
from nomoat.judge.forgetting import (
    QUESTION_MARGIN,
    TEXT_MARGIN,
    general_questions,
    general_text,
    guard,
    retention,
)
from nomoat.judge.measure import Subject
from nomoat.judge.verdict import LOG_PERPLEXITY, Comparison, compare_means, compare_shares
from nomoat.model.load import load_base


def test_the_questions_are_distinct_and_the_right_answer_stands_in_every_place_equally_often() -> None:
    questions = general_questions()
    assert len({asked.question for asked in questions}) == len(questions) == 64
    assert all(len(set(asked.choices)) == 4 for asked in questions)
    assert Counter(asked.answer for asked in questions) == {0: 16, 1: 16, 2: 16, 3: 16}


def test_the_right_answer_cannot_be_told_by_its_length() -> None:
    longest = shortest = 0
    for asked in general_questions():
        lengths = [len(choice) for choice in asked.choices]
        right = lengths[asked.answer]
        longest += lengths.count(right) == 1 and right == max(lengths)
        shortest += lengths.count(right) == 1 and right == min(lengths)
    assert longest <= 32
    assert shortest <= 32


def test_the_passages_are_distinct_and_long_enough_to_be_read() -> None:
    passages = general_text()
    assert len(set(passages)) == len(passages) == 61
    assert all(80 < len(passage) < 700 for passage in passages)


def text_change(harm: float, spread: float) -> Comparison:
    rng = np.random.default_rng(0)
    before = rng.normal(3.3, 0.4, size=61)
    after = before + harm + rng.normal(0, spread, size=61)
    return compare_means("text", LOG_PERPLEXITY, before, after, higher_is_better=False)


@pytest.mark.parametrize(
    ("harm", "spread", "word"),
    [
        (0.0, 0.02, "kept"),
        (-0.3, 0.02, "kept"),
        (0.03, 0.01, "kept"),
        (0.10, 0.02, "forgot"),
        (0.05, 0.02, "forgot"),
        (0.03, 0.3, "cannot tell"),
    ],
)
def test_text_is_kept_when_the_harm_is_surely_small_and_forgotten_when_it_is_real(
    harm: float, spread: float, word: str
) -> None:
    assert retention(text_change(harm, spread), TEXT_MARGIN) == word


def questions_change(fixed: int, broken: int) -> Comparison:
    before = np.repeat([False, True, True], [fixed, broken, 64 - fixed - broken])
    after = np.repeat([True, False, True], [fixed, broken, 64 - fixed - broken])
    return compare_shares("questions", before, after)


@pytest.mark.parametrize(
    ("fixed", "broken", "word"),
    [(0, 0, "kept"), (1, 1, "kept"), (8, 0, "kept"), (0, 20, "forgot"), (5, 8, "cannot tell"), (0, 4, "cannot tell")],
)
def test_questions_are_judged_by_the_same_words(fixed: int, broken: int, word: str) -> None:
    assert retention(questions_change(fixed, broken), QUESTION_MARGIN) == word


def test_the_margin_of_text_is_five_per_cent_of_perplexity() -> None:
    assert math.exp(TEXT_MARGIN) == pytest.approx(1.05)


@pytest.mark.real
def test_a_real_small_model_answers_most_of_the_questions_and_reads_the_text(own_home: Path) -> None:
    base = load_base(models.path("smollm2"), name="smollm2")
    subject = Subject(base, (), "before", Store(own_home))
    result = returned(guard(subject, subject))
    text, questions = result["parts"]
    assert questions["before"]["value"] >= 0.5
    assert 20 < math.exp(text["before"]["value"]) < 150
    assert result["verdict"] == "kept"
