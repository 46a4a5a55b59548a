"""Judgments that exist already: MT-bench's, AlpacaEval's, the Vicuna blog's, battles as FastChat's arena logs them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nomoat.core.errors import DataError
from nomoat.data.json_files import first_row, read_lines
from nomoat.data.rows import Place
from nomoat.judge.alpaca_eval import Annotation, read_annotations
from nomoat.judge.length import hardness, length_controlled
from nomoat.judge.mt_bench import Score, read_judgments
from nomoat.judge.ratings import Battle, Winner
from nomoat.judge.reviews import Review, read_reviews
from nomoat.judge.statistics import Interval, bootstrap

_WINNERS: Final[dict[str, Winner]] = {
    "model_a": "model_a", "model_b": "model_b", "tie": "tie", "both_bad": "both_bad", "tie (bothbad)": "both_bad"
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Against:
    """A model's share of wins against the baseline, ties half; and at equal length."""

    model: str
    baseline: str
    instructions: int
    rate: Interval
    length_controlled: Interval


def battles_of(path: Path) -> list[Battle]:
    """Every comparison in a file or a folder. Raises ``DataError`` where there is none."""
    found: list[Battle] = []
    if path.is_dir() and any(path.glob("**/review*.jsonl")):
        return [_reviewed(each) for each in read_reviews(path)]
    for file in _files(path):
        if file.suffix == ".json":
            found += [_battle(each) for each in read_annotations(file)]
        elif "model_a" in first_row(file):
            found += _logged(file)
        else:
            games, scores = read_judgments(file)
            found += [game.battle for game in games] + _by_score(scores)
    if not found:
        raise DataError(
            "holds no judgments", file=path, hint="MT-bench's, AlpacaEval's, the Vicuna blog's, or arena logs"
        )
    return found


def rates_against(path: Path, *, seed: int = 0) -> list[Against]:
    """Win rates of AlpacaEval annotations, model by model, each against its baseline; none for other judgments."""
    notes = [each for file in _files(path) if file.suffix == ".json" for each in read_annotations(file)]
    found = []
    for baseline in sorted({each.baseline for each in notes}):
        found += _rates([each for each in notes if each.baseline == baseline], baseline, seed)
    return sorted(found, key=lambda each: -each.length_controlled.value)


def _rates(notes: Sequence[Annotation], baseline: str, seed: int) -> list[Against]:
    models = sorted({each.model for each in notes})
    places = {text: place for place, text in enumerate(dict.fromkeys(each.instruction for each in notes))}
    longer = np.array([each.longer for each in notes], dtype=np.float64)
    points = np.array([each.points for each in notes])
    whose = np.array([models.index(each.model) for each in notes])
    rows = np.array([places[each.instruction] for each in notes])
    hard = hardness(longer, points, whose, rows) if len(models) > 1 else np.zeros(len(places))
    found = []
    for number, model in enumerate(models):
        mine = whose == number
        controlled = length_controlled(longer[mine], points[mine], hard[rows[mine]], seed=seed)
        raw = bootstrap(points[mine], seed=seed)
        found.append(Against(model, baseline, int(mine.sum()), raw, controlled))
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    judged = [path / "model_judgment"] if (path / "model_judgment").is_dir() else [path]
    found = sorted(path.glob("**/annotations.json"))
    return found or sorted(file for folder in judged for file in folder.glob("*.jsonl"))


def _logged(file: Path) -> list[Battle]:
    battles = []
    for line, raw in read_lines(file):
        place = Place(str(file), line, line)
        values: list[Any] = [raw.get(field) if isinstance(raw, dict) else None for field in ("model_a", "model_b")]
        if not all(isinstance(value, str) and value for value in values):
            raise place.error("must be two models' names", field="model_a")
        if raw.get("winner") not in _WINNERS:
            raise place.error(f"must be one of {', '.join(_WINNERS)}", field="winner")
        battles.append(Battle(values[0], values[1], _WINNERS[raw["winner"]]))
    return battles


def _battle(each: Annotation) -> Battle:
    winner: Winner = "tie" if each.points == 0.5 else "model_a" if each.points > 0.5 else "model_b"
    return Battle(each.model, each.baseline, winner)


def _reviewed(each: Review) -> Battle:
    """The higher of two scores wins."""
    gap = each.first_score - each.second_score
    return Battle(each.first, each.second, "tie" if gap == 0 else "model_a" if gap > 0 else "model_b")


def _by_score(scores: Sequence[Score]) -> list[Battle]:
    """Two ratings of answers to the same turn make a battle."""
    turns: dict[tuple[str, int], list[Score]] = {}
    for each in scores:
        turns.setdefault((each.question, each.turn), []).append(each)
    battles = []
    for rated in turns.values():
        for one, other in itertools.combinations(sorted(rated, key=lambda each: each.model), 2):
            winner: Winner = "tie" if one.score == other.score else "model_a" if one.score > other.score else "model_b"
            battles.append(Battle(one.model, other.model, winner))
    return battles
