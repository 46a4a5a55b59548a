"""Ratings are means under the judge's own probabilities, whatever way its tokenizer writes numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from nomoat.core.errors import DataError, UsageError
from nomoat.core.store import Store
from nomoat.engine.score import score
from nomoat.judge.grade import rubric_of
from nomoat.judge.grading import Exhibit, Rubric, asks, grading_judge, ratings
from nomoat.judge.manner import reviewing_judge
from nomoat.judge.measure import Subject
from nomoat.judge.pairwise import Pair, verdicts
from nomoat.judge.rated import read_rated
from nomoat.judge.statistics import rank_correlation
from nomoat.model.template import Encoded, prompt_ids
from outcome import outcome
from tiny import tiny_base

ASKED = ({"role": "user", "content": "How many?"},)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("judge")
    return Subject(tiny_base(folder / "base", max_position_embeddings=4096), (), "judge", Store(folder / "home"))


def by_full_texts(subject: Subject, exhibit: Exhibit, rubric: Rubric) -> float:
    """The mean over the whole likelihood of every rating's text, ten forward passes instead of two."""
    prompt = prompt_ids(subject.base.tokenizer, subject.base.template, asks(exhibit, rubric))
    weights = []
    for rate in rubric.scale:
        ids = subject.base.tokenizer.encode(f"Rating: [[{rate}", specials=False)
        if rate == 1 and rubric.highest == 10:  # "1" is only a 1 where no 0 follows: told against 10 by the bracket
            ids = subject.base.tokenizer.encode("Rating: [[1]", specials=False)
        row = Encoded([*prompt, *ids], [False] * len(prompt) + [True] * len(ids))
        weights.append(math.exp(score(subject.base, [row])[0].total))
    if rubric.highest == 10:
        ids = subject.base.tokenizer.encode("Rating: [[1", specials=False)
        row = Encoded([*prompt, *ids], [False] * len(prompt) + [True] * len(ids))
        both, total = math.exp(score(subject.base, [row])[0].total), weights[0] + weights[9]
        weights[0], weights[9] = both * weights[0] / total, both * weights[9] / total
    return sum(weight * rate for weight, rate in zip(weights, rubric.scale)) / sum(weights)


@pytest.mark.parametrize("rubric", [Rubric(), Rubric("Is it true?", 1, 5)])
def test_a_rating_is_the_mean_over_the_texts_of_all_ratings(subject: Subject, rubric: Rubric) -> None:
    exhibits = [Exhibit(ASKED, "Twelve."), Exhibit(ASKED, "I cannot say.", "Twelve.")]
    found = outcome(ratings(subject, rubric, exhibits))[1]
    for each, rate in zip(exhibits, found):
        assert rate == pytest.approx(by_full_texts(subject, each, rubric), abs=1e-4)
        assert rubric.lowest < rate < rubric.highest


def test_what_a_rubric_and_a_reference_say_reaches_the_judge() -> None:
    text = str(asks(Exhibit(ASKED, "12", "twelve"), Rubric("Only words count.", 0, 4))[0]["content"])
    assert "Only words count." in text and "twelve" in text and "from 0 to 4" in text
    assert "Use digits." in str(asks(Exhibit(ASKED, "12", rubric="Use digits."), Rubric())[0]["content"])


def test_a_grader_judges_pairs_the_same_in_either_order(subject: Subject) -> None:
    pairs = [Pair(ASKED, "twelve", f"thirteen {number}") for number in range(3)]
    for verdict in outcome(verdicts(grading_judge(subject, Rubric()), pairs))[1]:
        assert verdict.consistent and verdict.shown == pytest.approx(verdict.swapped)


def test_a_judge_may_write_before_its_verdict(subject: Subject) -> None:
    pairs = [Pair(ASKED, "twelve", "x"), Pair(ASKED, "y", "twelve")]
    found = outcome(reviewing_judge(subject, max_tokens=5)(pairs))[1]
    assert len(found) == 2 and all(math.isfinite(each) for each in found)
    rated = outcome(ratings(subject, Rubric(), [Exhibit(ASKED, "twelve")], written=True))[1]
    assert 1 < rated[0] < 10


@pytest.mark.parametrize("scale", ["10-1", "1", "1-500", "a-b", "-1-5"])
def test_a_scale_that_is_none_is_refused(scale: str) -> None:
    with pytest.raises(UsageError):
        rubric_of("", scale)


def test_a_rubric_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rubric.txt"
    path.write_text("Is it polite?\n")
    assert rubric_of(str(path), "1-5") == Rubric("Is it polite?", 1, 5)
    with pytest.raises(UsageError, match="cannot be read"):
        rubric_of(str(tmp_path / "none.txt"), "1-5")


def test_labelled_ratings_are_read_in_every_layout(tmp_path: Path) -> None:
    sections = (
        "###Task Description:\nRate.\n\n###The instruction to evaluate:\nHow many?\n\n###Response to evaluate:\n12\n\n"
        "###Reference Answer (Score 5):\ntwelve\n\n###Score Rubrics:\n[Is it right?]\nScore 1: no\n\n###Feedback: "
    )
    rows = [
        {"instruction": sections, "gpt4_score": "[3, 2, 4]"},
        {"input": "How many?", "response": "12", "score_rubric": {"criteria": "right?"}, "score": 5},
        {"prompt": "How many?", "answer": "12", "score": 1.5},
    ]
    path = tmp_path / "rated.json"
    path.write_text(json.dumps(rows))
    found = read_rated(path)
    assert [each.score for each in found] == [3.0, 5.0, 1.5]
    assert found[0].exhibit.answer == "12" and found[0].exhibit.reference == "twelve"
    assert found[0].exhibit.rubric.startswith("[Is it right?]")
    assert found[1].exhibit.rubric == "criteria: right?"
    path.write_text(json.dumps([{"prompt": "?", "answer": "!", "score": "high"}]))
    with pytest.raises(DataError, match="score"):
        read_rated(path)


def test_rank_correlation_shares_ranks_among_ties() -> None:
    found = rank_correlation(np.array([1.0, 2.0, 2.0, 4.0]), np.array([10.0, 30.0, 20.0, 40.0]))
    assert found.value == pytest.approx(4.5 / 22.5**0.5)  # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4
    assert rank_correlation(np.ones(5), np.arange(5.0)).value == 0.0
