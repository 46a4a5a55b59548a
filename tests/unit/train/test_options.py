"""Values and combinations that make no sense are refused before anything is loaded."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nomoat.core.errors import UsageError
from nomoat.train.options import TuneOptions, check

GOOD = TuneOptions(data="d", base="b", name="n")


def test_the_defaults_are_fine() -> None:
    check(GOOD)
    check(dataclasses.replace(GOOD, name="", dry_run=True))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rank": 0}, "--rank cannot be 0"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": float("nan")}, "--lr"),
        ({"epochs": -1.0}, "--epochs"),
        ({"batch_size": 0}, "--batch-size"),
        ({"warmup": 1.0}, "--warmup"),
        ({"data": ""}, "DATA is missing"),
        ({"base": ""}, "--base is missing"),
        ({"name": ""}, "--name is missing"),
        ({"minutes": 3.0, "finish_by": "23:30"}, "--minutes and --finish-by"),
        ({"minutes": 0.0}, "no time"),
        ({"probe_seconds": 0.0, "dry_run": True}, "--probe-seconds 0"),
        ({"memory": "0"}, "--memory 0"),
        ({"memory": "much"}, "not a size"),
    ],
)
def test_what_makes_no_sense_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        check(dataclasses.replace(GOOD, **changes))


def test_alpha_keeps_the_same_scale_at_every_rank() -> None:
    assert [TuneOptions(rank=rank).effective_alpha / rank for rank in (4, 16, 64)] == [2, 2, 2]
    assert TuneOptions(rank=16, use_rslora=True).effective_alpha / 16**0.5 == 2
    assert TuneOptions(alpha=5.0).effective_alpha == 5.0
