"""Every answer check on answers that are right and on answers that only look so."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core.errors import UsageError
from nomoat.judge.checks import SUMMARIES, AnswerCheck, make_check


def check(name: str, pattern: str = "") -> AnswerCheck:
    correct = make_check(name, pattern=pattern).correct
    assert correct is not None
    return correct


def test_exact_forgives_outer_whitespace_and_nothing_else() -> None:
    assert check("exact")("SELECT a FROM b\n", " SELECT a FROM b")
    assert not check("exact")("select a FROM b", "SELECT a FROM b")
    assert not check("exact")("SELECT  a FROM b", "SELECT a FROM b")


def test_normalised_wants_the_same_words_and_no_more() -> None:
    assert check("normalised")("The Hague.", "the hague")
    assert not check("normalised")("It is The Hague", "The Hague")


def test_number_compares_the_last_numbers_within_the_tolerance() -> None:
    assert check("number")("First 3, then 4, so 1,200", "#### 1200")
    assert not check("number")("1200 of 3", "1200")
    assert not check("number")("no idea", "1200")
    loose = make_check("number", tolerance=0.01).correct
    assert loose is not None
    assert loose("3.14", "3.15")


def test_a_pattern_without_a_group_is_searched_in_the_answer() -> None:
    assert check("regex", r"\bparis\b")("it is paris.", "ignored")
    assert not check("regex", r"\bparis\b")("comparison", "ignored")


def test_the_group_of_a_pattern_is_compared_with_that_of_the_expected_answer() -> None:
    final = check("regex", r"answer:\s*(\w+)")
    assert final("long thoughts\nanswer: B", "other thoughts\nanswer: B")
    assert final("answer: B", "B")
    assert not final("answer: C", "answer: B")
    assert not final("B", "answer: B")


def test_an_optional_group_that_did_not_take_part_is_a_wrong_answer() -> None:
    assert not check("regex", r"yes(!)?")("yes", "!")


def test_the_expected_answer_can_stand_in_the_pattern_and_is_taken_literally() -> None:
    contains = check("regex", r"\b{expected}$")
    assert contains("I say 3.5", "3.5")
    assert not contains("I say 3x5", "3.5")


def test_a_bad_or_missing_pattern_is_refused_before_any_model_runs() -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        make_check("regex", pattern="(")
    with pytest.raises(UsageError, match="needs a pattern"):
        make_check("regex")


def test_an_unknown_check_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="bleu") as caught:
        make_check("bleu")
    assert all(name in caught.value.hint for name in SUMMARIES)


def test_choice_and_loss_compare_no_text() -> None:
    assert make_check("choice").correct is None
    assert make_check("loss").correct is None
    assert (make_check("choice").needs, make_check("loss").needs) == ("choices", "losses")


def user_file(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(body)
    return f"python:{path}:is_right"


def test_the_users_function_decides(tmp_path: Path) -> None:
    place = user_file(tmp_path, "def is_right(answer, expected):\n    return answer[::-1] == expected\n")
    assert check(place)("abc", "cba")
    assert not check(place)("abc", "abc")
    assert make_check(place).name == place


def test_the_users_file_runs_only_when_the_user_names_it(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    place = user_file(tmp_path, f"open({str(mark)!r}, 'w').close()\ndef is_right(a, b): return True\n")
    make_check("exact")
    assert not mark.exists()
    make_check(place)
    assert mark.exists()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("def other(a, b): return True", "defines no function 'is_right'"),
        ("is_right = 3", "defines no function 'is_right'"),
        ("def is_right(:", "cannot be run: SyntaxError"),
        ("import a_module_that_is_not_there", "cannot be run: ModuleNotFoundError"),
    ],
)
def test_a_file_that_does_not_hold_the_function_is_refused(tmp_path: Path, body: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        make_check(user_file(tmp_path, body))


def test_a_missing_file_or_function_name_is_refused() -> None:
    for place in ("python:", "python:nowhere.py:f", "python:nowhere.py", "python"):
        with pytest.raises(UsageError):
            make_check(place)


def test_a_function_that_fails_or_says_neither_true_nor_false_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="raised ZeroDivisionError"):
        check(user_file(tmp_path, "def is_right(a, b): return 1 / 0"))("x", "y")
    with pytest.raises(UsageError, match=r"returned float 0\.5"):
        check(user_file(tmp_path, "def is_right(a, b): return 0.5"))("x", "y")
