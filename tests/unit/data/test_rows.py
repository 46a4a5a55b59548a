"""What makes two rows the same, and what a row asks."""

from __future__ import annotations

import pytest

from nomoat.core.errors import DataError
from nomoat.data.rows import (
    Place,
    characters,
    check_text,
    content_key,
    prompt_of,
    question_key,
    questions_of,
)


def pair(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def test_rows_that_differ_in_unicode_form_or_space_at_line_ends_are_the_same() -> None:
    assert content_key(pair("café\r\nx ", "a\n")) == content_key(pair("cafe\u0301\nx", "a"))
    assert content_key({"completion": "a", "prompt": "q"}) == content_key(pair("q", "a"))


@pytest.mark.parametrize("other", [pair("q", "A"), pair("qa", ""), pair("q", " a b"), {"text": "q\na"}])
def test_rows_with_other_words_or_case_are_not_the_same(other: dict[str, str]) -> None:
    assert content_key(pair("q", "a")) != content_key(other)


def test_questions_are_compared_without_case_form_and_spacing() -> None:
    assert question_key(" What\tIS\u00a0ﬁve? ") == question_key("what is five?")


def test_the_prompt_of_a_conversation_ends_at_the_first_answer() -> None:
    row = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u1"},
            {"role": "assistant", "content": "a1"},
            {"role": "user", "content": "u2"},
            {"role": "assistant", "content": "a2"},
        ]
    }
    assert prompt_of(row) == "s\nu1"
    assert questions_of(row) == ["s\nu1", "u1", "u2"]
    assert characters(row) == 9


def test_text_that_cannot_be_written_is_refused_with_its_position() -> None:
    place = Place("f", 3, 3)
    assert check_text("ü\t\n😀", place, "x") == "ü\t\n😀"
    with pytest.raises(DataError, match=r"f:3 field 'x': character 2 is half a surrogate pair \(U\+DC00\)"):
        check_text("a\udc00", place, "x")
