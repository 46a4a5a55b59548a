"""Drawn verdicts: what so many battles tell of strengths that are known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from nomoat.core.records import Done
from nomoat.core.store import Store
from nomoat.judge.matches import Match
from nomoat.judge.pairwise import Pair
from nomoat.judge.rank import rank
from nomoat.judge.ratings import rate
from nomoat.judge.simulated import beside_planted, planted_strengths, simulated
from nomoat.judge.topics import Topic
from nomoat.judge.verdict_options import RankOptions

SHARED = Path(__file__).parents[4] / "shared" / "data"
ASKED = ({"role": "user", "content": "?"},)


def matches(models: str, rounds: int) -> list[Match]:
    topic = Topic("1", "", ASKED)
    pair = Pair(ASKED, "x", "y")
    return [Match(a, b, topic, 0, pair) for a, b in combinations(models, 2) for _ in range(rounds)]


def test_strengths_are_spaced_evenly_and_dealt_by_lot() -> None:
    found = planted_strengths("abcde", 400, seed=1)
    assert sorted(found.values()) == [800, 900, 1000, 1100, 1200]
    assert found == planted_strengths("edcba", 400, seed=1) != planted_strengths("abcde", 400, seed=2)


def test_planted_strengths_are_found_again() -> None:
    strengths = planted_strengths("abcdef", 500)
    found = rate(simulated(matches("abcdef", 200), strengths), prior=0)
    told = beside_planted(found, strengths)
    assert told["inside"] >= 5 and told["told_wrongly"] == 0 and told["told_apart"] >= 13
    assert told["correlation"]["value"] == pytest.approx(1.0, abs=0.06)
    assert told["planted"][found.models[0]] == 1250


def test_models_without_a_difference_are_not_told_apart() -> None:
    strengths = dict.fromkeys("abcd", 1000.0)
    told = beside_planted(rate(simulated(matches("abcd", 100), strengths, seed=3)), strengths)
    assert told["told_apart"] <= 1 and told["inside"] >= 3


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("answers", "data", "models"),
    [("mt_bench", "mt_bench/mt_bench__question.jsonl", 31), ("alpaca_eval/outputs", "alpaca_eval/prompts.jsonl", 16)],
)
def test_the_models_of_a_published_benchmark_are_ranked_by_drawn_verdicts(answers: str, data: str, models: int) -> None:
    options = RankOptions(answers=str(SHARED / answers), data=str(SHARED / data), simulate=800, battles=1200)
    last = list(rank(options, Store()))[-1]
    assert isinstance(last, Done) and last.result["battles"] == 1200
    assert len(last.result["ratings"]) == models
    told = last.result["simulation"]
    assert told["inside"] >= 0.85 * models and told["correlation"]["low"] > 0.9
