"""Reviews in the Vicuna blog's format: relative scores, their intervals, and what they cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomoat.core.errors import DataError, NotFound
from nomoat.judge.reviews import Review, never_swapped, read_reviews, relative, repeated

BLOG = Path(__file__).parents[4] / "shared" / "data" / "vicuna_blog"


@pytest.mark.skipif(not BLOG.is_dir(), reason="the blog's files are not here")
def test_the_vicuna_blogs_figures_come_out_of_its_own_files() -> None:
    reviews = read_reviews(BLOG)
    chatgpt = "gpt-3.5-turbo:20230327"
    published = {"llama-13b:v1": 68, "alpaca-13b:v1": 76, "vicuna-13b:20230322-clean-lang": 92, "bard:20230327": 93}
    for model, percent in published.items():
        found = relative(reviews, model, chatgpt)
        assert round(100 * found.share.value) == percent
        assert found.share.low < found.share.value < found.share.high
    assert len(never_swapped(reviews)) == 13
    assert repeated(reviews, chatgpt) == [693.0, 684.0, 688.0]


def some(questions: int = 20) -> list[Review]:
    return [Review(n, "small", "large", 4 + n % 3, 8) for n in range(questions)]


def test_models_that_met_through_a_third_are_compared_through_it() -> None:
    reviews = some() + [Review(n, "large", "best", 8, 10) for n in range(20)]
    found = relative(reviews, "small", "best")
    assert found.via == "large"
    assert found.share.value == pytest.approx(relative(reviews, "small", "large").share.value * 0.8)


def test_the_order_on_the_page_does_not_matter() -> None:
    turned = [Review(each.question, "large", "small", each.second_score, each.first_score) for each in some()]
    assert relative(turned, "small", "large") == relative(some(), "small", "large")


def test_models_that_never_met_are_refused() -> None:
    with pytest.raises(DataError, match="never met"):
        relative([*some(), Review(0, "x", "y", 1, 2)], "small", "y")


def test_a_pair_seen_both_ways_is_swapped() -> None:
    assert never_swapped([Review(0, "a", "b", 1, 2), Review(1, "b", "a", 1, 2)]) == []


def write(folder: Path, review: dict[str, object]) -> None:
    answers = [{"answer_id": f"x{n}", "model_id": name, "question_id": 1} for n, name in enumerate(("a", "b"))]
    (folder / "answers.jsonl").write_text("\n".join(json.dumps(each) for each in answers))
    (folder / "review.jsonl").write_text(json.dumps(review))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"score": [1]}, "two numbers"),
        ({"answer1_id": "gone"}, "no answer 'gone'"),
        ({"question_id": "1"}, "whole number"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    good: dict[str, object] = {"question_id": 1, "answer1_id": "x0", "answer2_id": "x1", "score": [7, 8]}
    write(tmp_path, good)
    assert read_reviews(tmp_path) == [Review(1, "a", "b", 7.0, 8.0)]
    write(tmp_path, good | change)
    with pytest.raises(DataError, match=complaint) as caught:
        read_reviews(tmp_path)
    assert "review.jsonl" in str(caught.value)


def test_a_folder_without_reviews_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no reviews"):
        read_reviews(tmp_path)
