"""Judgments of other tools become battles and win rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nomoat.core.errors import DataError
from nomoat.judge import alpaca_eval, mt_bench
from nomoat.judge.alpaca_eval import Annotation
from nomoat.judge.given import battles_of, rates_against
from nomoat.judge.mt_bench import Game, Score
from nomoat.judge.ratings import Battle, rate


def annotation(number: int, model: str, preference: float, output: str = "xx") -> dict[str, Any]:
    return {
        "instruction": f"{number}?",
        "generator_1": "base",
        "output_1": "x" * 40,
        "generator_2": model,
        "output_2": output,
        "preference": preference,
    }


def test_annotations_are_read_as_they_are_published(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    rows = [annotation(1, "m", 2), annotation(2, "m", 1.0), annotation(3, "m", 0), annotation(4, "m", 1.75)]
    path.write_text(json.dumps([*rows, annotation(5, "m", 1) | {"preference": None}]))
    found = alpaca_eval.read_annotations(path)
    assert [each.points for each in found] == [1.0, 0.0, 0.5, 0.75]
    assert found[0] == Annotation("1?", "m", "base", 1.0, -38)
    assert [each.winner for each in battles_of(path)] == ["model_a", "model_b", "tie", "model_a"]


@pytest.mark.parametrize("preference", [0.5, 3, "2", [1]])
def test_a_preference_that_is_none_is_refused(tmp_path: Path, preference: Any) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([annotation(1, "m", 1) | {"preference": preference}]))
    with pytest.raises(DataError, match="preference"):
        alpaca_eval.read_annotations(path)


def test_lists_written_are_the_lists_read(tmp_path: Path) -> None:
    alpaca_eval.write_outputs(tmp_path / "o.json", "m", {"1?": ("yes",), "2?": ("first", "last")})
    assert alpaca_eval.read_outputs(tmp_path) == {"m": {"1?": ("yes",), "2?": ("last",)}}
    assert [topic.text for topic in alpaca_eval.read_prompts(tmp_path / "o.json")] == ["1?", "2?"]


def test_two_models_against_one_baseline_get_rates_at_equal_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for model, chance in (("long", 0.7), ("short", 0.5)):
        for number in range(120):
            extra = int(rng.integers(20, 200)) if model == "long" else int(rng.integers(20, 60))
            wins = rng.random() < chance - (0.25 if extra < 100 and model == "long" else 0)
            rows.append(annotation(number, model, 2.0 if wins else 1.0, "x" * extra))
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    found = {each.model: each for each in rates_against(tmp_path / "annotations.json")}
    assert found["long"].instructions == 120 and found["long"].baseline == "base"
    assert found["long"].length_controlled.value < found["long"].rate.value
    assert found["long"].rate.low < found["long"].rate.value < found["long"].rate.high


def test_games_scores_and_arena_logs_become_battles(tmp_path: Path) -> None:
    folder = tmp_path / "model_judgment"
    mt_bench.write_games(folder / "pair.jsonl", [Game("1", 1, "a", "b", "model_a", "model_a")], "j", "p")
    mt_bench.write_scores(
        folder / "single.jsonl", [Score("1", 1, "b", 4), Score("1", 1, "a", 9), Score("1", 2, "a", 3)], "j", "p"
    )
    assert battles_of(tmp_path) == [Battle("a", "b", "model_a"), Battle("a", "b", "model_a")]
    log = tmp_path / "votes.jsonl"
    log.write_text(json.dumps({"model_a": "a", "model_b": "b", "winner": "tie (bothbad)"}))
    assert battles_of(log) == [Battle("a", "b", "both_bad")]
    log.write_text(json.dumps({"model_a": "a", "model_b": "b", "winner": "left"}))
    with pytest.raises(DataError, match="winner"):
        battles_of(log)


def test_the_order_of_known_strengths_is_found_among_31_models_judged_at_random(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [f"m{number:02}" for number in range(31)]
    games = []
    for number in range(4000):
        a, b = (int(each) for each in rng.choice(31, 2, replace=False))
        won = rng.random() < 1 / (1 + np.exp((a - b) / 4))  # m00 is the strongest
        winner = "model_a" if won else "model_b"
        games.append(Game(str(number), 1, names[a], names[b], winner, winner))
    mt_bench.write_games(tmp_path / "pair.jsonl", games, "j", "p")
    found = rate(battles_of(tmp_path / "pair.jsonl"), prior=1.0, resamples=50)
    places = [names.index(name) for name in found.models]
    assert float(np.corrcoef(places, range(31))[0, 1]) > 0.97


def test_reviews_with_two_scores_are_battles(tmp_path: Path) -> None:
    said = [{"answer_id": f"{name}1", "model_id": name} for name in ("a", "b")]
    (tmp_path / "answer.jsonl").write_text("\n".join(json.dumps(each) for each in said))
    rows = [
        {"question_id": 1, "answer1_id": "a1", "answer2_id": "b1", "score": score}
        for score in ([8, 7.5], [6, 6], [2, 9])
    ]
    (tmp_path / "review_a_b.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert [each.winner for each in battles_of(tmp_path)] == ["model_a", "tie", "model_b"]
