"""Rated answers become labelled pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError
from nomoat.core.store import Store
from nomoat.judge.lessons import read_pairs
from nomoat.judge.rated import holds_ratings, rated_pairs, read_rated

SHARED = Path(__file__).parents[4] / "shared" / "data"


def written(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rated.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def critique(query: str, response: str, said: str) -> dict[str, Any]:
    data = f"[BEGIN DATA]\n***\n[Query]: {query}\n***\n[Response]: {response}\n***\n[END DATA]\n\nWrite critiques."
    return {"usrmsg": data, "target_output": said}


def test_neighbours_by_score_of_one_question_are_pairs_and_equal_scores_are_none(tmp_path: Path) -> None:
    rows = [("a?", "poor", 1), ("b?", "alone", 5), ("a?", "good", 4), ("a?", "fair", 2), ("a?", "as good", 4)]
    path = written(tmp_path, *({"prompt": asked, "answer": said, "score": score} for asked, said, score in rows))
    assert holds_ratings(path)
    found = read_pairs(Store(tmp_path), str(path))
    assert [(each.chosen, each.rejected) for each in found] == [("as good", "fair"), ("fair", "poor")]
    assert found[0].messages == ({"role": "user", "content": "a?"},)


def test_critiques_that_end_in_a_rating_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path, critique("Why?", "Because.\n***\nReally.", "Thin. Rating: [[3]]"), critique("Why?", "No.", "[[1]]")
    )
    assert [(each.exhibit.answer, each.score) for each in read_rated(path)] == [
        ("Because.\n***\nReally.", 3.0),
        ("No.", 1.0),
    ]
    assert [(each.chosen, each.rejected) for each in rated_pairs(path)] == [("Because.\n***\nReally.", "No.")]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"usrmsg": "no marks", "target_output": "[[3]]"}, "Query"),
        (critique("Why?", "x", "no number"), "rating"),
        (critique("Why?", "x", "Rating: [[3]]"), "no question has two"),
    ],
)
def test_what_makes_no_pair_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    path = written(tmp_path, row)
    with pytest.raises(DataError, match=complaint):
        rated_pairs(path)


def test_rows_of_pairs_are_not_taken_for_ratings(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "?", "chosen": "a", "rejected": "b", "score": 3})
    assert not holds_ratings(path) and not holds_ratings(tmp_path)
    assert len(read_pairs(Store(tmp_path), str(path))) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("prometheus/vicuna_eval.json", 121),
        ("autoj/single_traindata.jsonl", 90),
        ("oasst_en/en_100_tree.jsonl", 429),
        ("hh_rlhf/helpful_base_siblings_from_oasst_seed.jsonl", 975),
    ],
)
def test_published_labels_are_pairs_for_an_exam(tmp_path: Path, name: str, pairs: int) -> None:
    assert len(read_pairs(Store(tmp_path), str(SHARED / name))) == pairs
