"""Reading answers: normalised text and last numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.judge.answers import last_number, normalise, only_a_number, same_number


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("  New\tYork \n", "new york"),
        ("U.S.", "us"),
        ("Don't!", "dont"),
        ("well-known", "Well known"),
        ("“Paris”", "paris."),
        ("Straße", "STRASSE"),
        ("ﬁne", "fine"),
        ("naïve", "nai\u0308ve"),
        ("−5", "-5"),
    ],
)
def test_case_space_and_punctuation_do_not_count(left: str, right: str) -> None:
    assert normalise(left) == normalise(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("3.5", "35"), ("-5", "5"), (".5", "5"), ("a < b", "a > b"), ("c", "c++"), ("!", "?"), ("New York", "Newark")],
)
def test_what_changes_the_meaning_does_count(left: str, right: str) -> None:
    assert normalise(left) != normalise(right)


@given(st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The total is 1,234.50 dollars.", "1234.50"),
        ("5 - 3 = 2", "2"),
        ("10-4", "4"),
        ("minus: −7", "-7"),
        ("-$4", "-4"),
        ("1.234,56 EUR", "1234.56"),
        ("3,5", "3.5"),
        ("0,125", "0.125"),
        ("1, 2, 3", "3"),
        ("3/4", "0.75"),
        ("1\u202f234", "1234"),
        ("10'000", "10000"),
        ("#### 72", "72"),
        ("6.02e23", "6.02e23"),
        ("٣٤", "34"),
        ("50%", "50"),
        ("so it is 4.", "4"),
    ],
)
def test_the_last_number_is_read_as_a_person_would(text: str, value: str) -> None:
    assert last_number(text) == Decimal(value)


def test_no_number_is_none() -> None:
    assert last_number("none at all") is None


@given(st.text(alphabet="0123456789.,-/e+$ '\u202f#", max_size=60))
def test_any_mess_of_digits_and_signs_is_read_without_an_error(text: str) -> None:
    found = last_number(text)
    assert (found is None) == (not any(character.isdigit() for character in text))


def test_a_hostile_run_of_digits_is_read_at_once() -> None:
    assert last_number("1," * 20_000 + "9" * 100_000) is not None


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_do_not_change_a_number(value: int) -> None:
    assert last_number(f"it is {value:,} in all") == value


def test_tolerance_is_relative_above_one_and_absolute_below() -> None:
    assert same_number(Decimal("1000000"), Decimal("1000000.5"), 1e-6)
    assert not same_number(Decimal("1000000"), Decimal("1000002"), 1e-6)
    assert same_number(Decimal("0.0000001"), Decimal(0), 1e-6)
    assert not same_number(Decimal("0.01"), Decimal(0), 1e-6)


@pytest.mark.parametrize("text", ["42", "$3.50", "-7 %", "12 km", "3/4", " 1,000. "])
def test_a_number_with_at_most_a_unit_is_only_a_number(text: str) -> None:
    assert only_a_number(text)


@pytest.mark.parametrize("text", ["", "a", "about 7", "12 km per hour", "2024-05-01", "1 2", "7 dwarfs and Snow White"])
def test_more_than_a_number_is_not(text: str) -> None:
    assert not only_a_number(text)
