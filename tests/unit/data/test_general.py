"""The built-in general rows: whole, drawn by a seed, and apart from what forgetting is measured with."""

from __future__ import annotations

import pytest

from nomoat.core.errors import UsageError
from nomoat.data.general import general_rows
from nomoat.judge.forgetting import general_questions, general_text


def test_a_seed_draws_the_same_rows_and_another_seed_others() -> None:
    first = general_rows(50, seed=1)
    assert first == general_rows(50, seed=1) != general_rows(50, seed=2)
    assert first[:20] == general_rows(20, seed=1)
    with pytest.raises(UsageError, match="not 9999"):
        general_rows(9999, seed=0)


def test_every_row_asks_and_answers_something_once() -> None:
    rows = general_rows(200, seed=0)
    assert all(set(row) == {"prompt", "completion"} and row["prompt"] and row["completion"] for row in rows)
    assert len({row["prompt"].lower() for row in rows}) == len(rows)


def test_none_of_them_stands_in_what_forgetting_is_measured_with() -> None:
    texts = " ".join(general_text())
    questions = {question.question.lower() for question in general_questions()}
    for row in general_rows(200, seed=0):
        assert row["prompt"].lower() not in questions
        assert row["completion"] not in texts or len(row["completion"]) < 20
