"""Splitting by hash: stable, by prompt, with useful counts. Laws for all data are in tests/property."""

from __future__ import annotations

import pytest

from nomoat.data.split import TEST_AT_MOST, VALID_AT_MOST, Thresholds, choose_thresholds, position_of

PINNED = 0.8043216251842354  # of this prompt, with seed 0


def rows(n: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "completion": "a"} for i in range(n)]


def counts(n: int, thresholds: Thresholds) -> tuple[int, int]:
    splits = [thresholds.split_of(row) for row in rows(n)]
    return splits.count("valid"), splits.count("test")


def test_the_fractions_are_the_thresholds_where_they_give_useful_counts() -> None:
    thresholds = choose_thresholds(rows(2000), valid=0.05, test=0.1, seed=0)
    assert (thresholds.valid, thresholds.test) == (0.05, 0.1)
    valid, test = counts(2000, thresholds)
    assert 70 <= valid <= 130 and 150 <= test <= 250


@pytest.mark.parametrize(
    ("n", "valid", "test"),
    [(20_000, VALID_AT_MOST, TEST_AT_MOST), (100, 8, 20), (30, 3, 6), (10, 1, 2), (0, 0, 0)],
)
def test_counts_are_kept_between_what_is_needed_and_what_is_useful(n: int, valid: int, test: int) -> None:
    assert counts(n, choose_thresholds(rows(n), valid=0.05, test=0.1, seed=3)) == (valid, test)


def test_a_share_of_zero_holds_nothing_out() -> None:
    assert counts(500, choose_thresholds(rows(500), valid=0.0, test=0.0, seed=0)) == (0, 0)


def test_positions_are_pinned_for_ever() -> None:
    assert position_of({"prompt": "What is 2+2?", "completion": "4"}, 0) == PINNED
    assert position_of({"text": " what IS\n2+2? "}, 0) == PINNED
    assert position_of({"text": "What is 2+2?"}, 1) != PINNED
