"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from nomoat.judge import units


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("\u2212", "-")


@pytest.mark.parametrize(("value", "text"), [(0, "0 %"), (0.26, "26 %"), (1 / 12, "8.3 %"), (1, "100 %")])
def test_shares(value: float, text: str) -> None:
    assert plain(units.share(value)) == text


@pytest.mark.parametrize(("value", "text"), [(0.26, "+26"), (-0.035, "-3.5"), (0, "0"), (-0.0001, "0")])
def test_points_carry_their_sign_unless_they_round_to_nothing(value: float, text: str) -> None:
    assert plain(units.points(value)) == text


@pytest.mark.parametrize(("value", "text"), [(-1.5, "-1.500"), (0.0704, "+0.070"), (-0.0001, "0.000")])
def test_differences_of_losses(value: float, text: str) -> None:
    assert plain(units.signed(value)) == text


def test_durations_and_sizes_are_never_broken_over_two_lines() -> None:
    assert units.duration(200) == "3\u202fmin\u202f20\u202fs"
    assert " " not in units.size(93_800_000)


@pytest.mark.parametrize(("value", "text"), [(1.2345, "1.23"), (30.0, "30.0"), (123.4, "123"), (25_000.4, "25,000")])
def test_perplexities_have_three_figures(value: float, text: str) -> None:
    assert units.perplexity(value) == text


@pytest.mark.parametrize(("p_value", "text"), [(0.1234, "p = 0.12"), (1.0, "p = 1"), (1e-9, "p < 0.001")])
def test_chances(p_value: float, text: str) -> None:
    assert plain(units.chance(p_value)) == text


def test_energy_and_money_keep_two_figures_where_they_are_small() -> None:
    assert plain(units.energy(5.588)) == "5.6 Wh"
    assert plain(units.energy(43.2)) == "43 Wh"
    assert plain(units.energy(450)) == "0.45 kWh"
    assert plain(units.money(0.00168, "EUR")) == "0.0017 EUR"
    assert plain(units.money(2.5, "EUR")) == "2.50 EUR"
