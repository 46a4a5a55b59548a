"""Durations, sizes and counts as people say them."""

from __future__ import annotations

import pytest

from nomoat.core import amounts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_never_show_sixty_of_anything(seconds: float, text: str) -> None:
    assert amounts.duration(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (93_800_000, "93.8 MB"), (431_000, "431 kB"), (999_600, "1.0 MB"), (2.4e9, "2.4 GB")],
)
def test_sizes_use_decimal_units(n_bytes: float, text: str) -> None:
    assert amounts.size(n_bytes) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (999, "999"),
        (2_048, "2.05 k"),
        (46_080, "46.1 k"),
        (999_600, "1.00 M"),
        (4_884_480, "4.88 M"),
        (134_515_008, "135 M"),
        (1_543_714_304, "1.54 B"),
        (70e12, "70000 B"),
    ],
)
def test_a_large_count_keeps_three_digits_whatever_its_size(n: float, text: str) -> None:
    assert amounts.rounded(n) == text


@pytest.mark.parametrize(("n", "text"), [(0, "0 rows"), (1, "1 row"), (1200, "1,200 rows")])
def test_one_of_a_thing_is_said_in_the_singular(n: int, text: str) -> None:
    assert amounts.counted(n, "row") == text
