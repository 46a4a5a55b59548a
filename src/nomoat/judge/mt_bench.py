"""MT-bench's files, as FastChat's ``llm_judge`` reads and writes them: questions, answers, references, judgments.

``question.jsonl``: ``question_id``, ``category``, ``turns``[, ``reference``]. ``model_answer/<model>.jsonl`` and
``reference_answer/<model>.jsonl``: ``question_id``, ``model_id``, ``choices[0].turns``. ``model_judgment/*.jsonl``:
of pairs ``model_1``, ``model_2``, ``g1_winner``, ``g2_winner`` (the second game has the answers in the other order); of
single answers ``model``, ``score``. Zheng et al. 2023, arXiv 2306.05685.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import DataError
from nomoat.core.files import write_lines
from nomoat.data.json_files import read_lines
from nomoat.data.rows import Place, check_text
from nomoat.judge.ratings import Battle, Winner
from nomoat.judge.topics import Topic

MOST_TURNS: Final = 16
_LETTER: Final = re.compile(r"\[\[(A|B|C)\]\]")
_RATING: Final = (re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]"), re.compile(r"\[(\d+(?:\.\d+)?)\]"))
_WINNERS: Final[dict[str, Winner]] = {"model_1": "model_a", "model_2": "model_b", "tie": "tie"}
Said = dict[str, tuple[str, ...]]
"""A model's answers, turn by turn, under the question's key."""


@dataclasses.dataclass(frozen=True, slots=True)
class Game:
    """One pair of answers judged in both orders. ``turn`` from 1; a win must hold in both games, else it is a tie."""

    question: str
    turn: int
    model_1: str
    model_2: str
    first: Winner
    second: Winner

    @property
    def battle(self) -> Battle:
        return Battle(self.model_1, self.model_2, self.first if self.first == self.second else "tie")


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """One answer's rating. ``turn`` from 1."""

    question: str
    turn: int
    model: str
    score: float


def read_questions(path: Path, references: Mapping[str, tuple[str, ...]] | None = None) -> list[Topic]:
    """The questions of a file; ``references`` by key where the file holds none. Raises ``DataError`` with the line."""
    topics = []
    for line, raw in read_lines(path):
        place = Place(str(path), line, line)
        key = _key(raw, place)
        turns = _texts(raw.get("turns"), "turns", place)
        given = _texts(raw["reference"], "reference", place) if raw.get("reference") else ()
        category = raw.get("category", "")
        opening = ({"role": "user", "content": turns[0]},)
        known = given or (references or {}).get(key, ())
        topics.append(Topic(key, category if isinstance(category, str) else "", opening, turns[1:], known))
    if not topics:
        raise DataError("holds no questions", file=path)
    return topics


def read_answers(path: Path) -> dict[str, Said]:
    """Answers by model: of one file, or of every ``.jsonl`` file of a folder. Raises ``DataError`` with the line."""
    found: dict[str, Said] = {}
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        for line, raw in read_lines(file):
            place = Place(str(file), line, line)
            key, model, choices = _key(raw, place), raw.get("model_id"), raw.get("choices")
            if not isinstance(model, str) or not model:
                raise place.error("must be a model's name", field="model_id")
            if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
                raise place.error("must be a list of answers", field="choices")
            found.setdefault(model, {})[key] = _texts(choices[0].get("turns"), "choices[0].turns", place)
    return found


def read_judgments(path: Path) -> tuple[list[Game], list[Score]]:
    """Judgments of a file, or of all files of a folder; those that the judge failed to give are left out."""
    games: list[Game] = []
    scores: list[Score] = []
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        for line, raw in read_lines(file):
            place = Place(str(file), line, line)
            key, turn = _key(raw, place), raw.get("turn", 1)
            if not isinstance(turn, int) or isinstance(turn, bool) or not 1 <= turn <= MOST_TURNS:
                raise place.error(f"must be 1 to {MOST_TURNS}", field="turn")
            if "score" in raw:
                scores += _score(raw, key, turn, place)
            else:
                games += _game(raw, key, turn, place)
    return games, scores


def letter(judgment: str) -> str | None:
    """The verdict ``A``, ``B`` or ``C`` (tie) of a judgment's text: the last ``[[A]]`` in it."""
    found = _LETTER.findall(judgment)
    return str(found[-1]) if found else None


def rating(judgment: str) -> float | None:
    """The rating in a judgment's text: the first ``[[7]]``, else the first ``[7]``."""
    for pattern in _RATING:
        found = pattern.search(judgment)
        if found is not None:
            return float(found[1])
    return None


def write_answers(path: Path, model: str, said: Mapping[str, Sequence[str]]) -> None:
    """``model_answer/<model>.jsonl``, one file for one model."""
    rows = [
        {
            "question_id": _number(key),
            "answer_id": f"{model}-{key}",
            "model_id": model,
            "choices": [{"index": 0, "turns": list(turns)}],
            "tstamp": time.time(),
        }
        for key, turns in said.items()
    ]
    write_lines(path, rows)


def write_games(path: Path, games: Sequence[Game], judge: str, prompt: str) -> None:
    """Judgments of pairs; a game's text is its verdict alone, since nothing more was said."""
    rows = []
    for game in games:
        winners = [_WINNER_WORDS[each] for each in (game.first, game.second)]
        rows.append(
            {
                "question_id": _number(game.question),
                "model_1": game.model_1,
                "model_2": game.model_2,
                "g1_winner": winners[0],
                "g2_winner": winners[1],
                "judge": [judge, prompt],
                "g1_judgment": f"[[{'ABC'[_PLACES[winners[0]]]}]]",
                "g2_judgment": f"[[{'BAC'[_PLACES[winners[1]]]}]]",
                "turn": game.turn,
                "tstamp": time.time(),
            }
        )
    write_lines(path, rows)


def write_scores(path: Path, scores: Sequence[Score], judge: str, prompt: str) -> None:
    """Judgments of single answers."""
    rows = [
        {
            "question_id": _number(each.question),
            "model": each.model,
            "judge": [judge, prompt],
            "judgment": f"Rating: [[{each.score:g}]]",
            "score": each.score,
            "turn": each.turn,
            "tstamp": time.time(),
        }
        for each in scores
    ]
    write_lines(path, rows)


_WINNER_WORDS: Final = {"model_a": "model_1", "model_b": "model_2", "tie": "tie", "both_bad": "tie"}
_PLACES: Final = {"model_1": 0, "model_2": 1, "tie": 2}


def _game(raw: dict[str, Any], key: str, turn: int, place: Place) -> list[Game]:
    names = [raw.get("model_1"), raw.get("model_2")]
    if not all(isinstance(name, str) and name for name in names) or names[0] == names[1]:
        raise place.error("must be two models' names", field="model_1")
    won = [raw.get("g1_winner"), raw.get("g2_winner", raw.get("g1_winner"))]
    if "error" in won:
        return []
    for field, winner in zip(("g1_winner", "g2_winner"), won):
        if winner not in _WINNERS:
            raise place.error(f"must be one of {', '.join(_WINNERS)}, error", field=field)
    return [Game(key, turn, str(names[0]), str(names[1]), _WINNERS[str(won[0])], _WINNERS[str(won[1])])]


def _score(raw: dict[str, Any], key: str, turn: int, place: Place) -> list[Score]:
    if not isinstance(raw.get("model"), str):
        raise place.error("must be a model's name", field="model")
    score = raw["score"]
    if not isinstance(score, (int, float)) or isinstance(score, bool):
        raise place.error("must be a number", field="score")
    return [Score(key, turn, raw["model"], float(score))] if score >= 0 else []  # -1: none was found in the text


def _key(raw: Any, place: Place) -> str:
    key = raw.get("question_id") if isinstance(raw, dict) else None
    if not isinstance(key, (int, str)) or isinstance(key, bool):
        raise place.error("must be a number or text", field="question_id")
    return str(key)


def _number(key: str) -> int | str:
    return int(key) if key.isdecimal() and len(key) < 16 else key


def _texts(value: Any, field: str, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_TURNS:
        raise place.error(f"must be a list of 1 to {MOST_TURNS} texts", field=field)
    for text in value:
        if not isinstance(text, str):
            raise place.error("must be texts", field=field)
    return tuple(check_text(text, place, field) for text in value)
