"""Options of a request that make no sense are refused with the option's name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nomoat.core.errors import UsageError
from nomoat.core.options import describe, parse_values
from nomoat.engine.sampling import Sampling


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("presence_penalty", float("inf")),
        ("frequency_penalty", float("nan")),
        ("max_tokens", -1),
        ("stop", ("fine", "")),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        dataclasses.replace(Sampling(), **{name: value})


def test_the_defaults_are_greedy_and_without_penalties() -> None:
    assert Sampling().greedy and not Sampling().penalises


def test_one_candidate_is_greedy_at_any_temperature() -> None:
    assert Sampling(temperature=1.0, top_k=1).greedy


def test_every_option_explains_itself() -> None:
    assert all(spec.help for spec in describe(Sampling))


def test_options_are_read_from_text() -> None:
    sampling = parse_values(Sampling, {"temperature": "0.7", "top-k": "40", "seed": "3", "max_tokens": "9"})
    assert sampling == Sampling(temperature=0.7, top_k=40, seed=3, max_tokens=9)
