"""Answers and verdicts written where other tools read them: MT-bench's folders, or AlpacaEval's two lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nomoat.judge import alpaca_eval, mt_bench
from nomoat.judge.matches import Judged
from nomoat.judge.mt_bench import Game, Score
from nomoat.judge.ratings import Winner

PROMPT_NAME: Final = "nomoat-pair"
SINGLE_PROMPT_NAME: Final = "nomoat-single"
_ODD: Final = re.compile(r"[^A-Za-z0-9._+-]+")


def save_contest(
    folder: Path,
    said: Mapping[str, Mapping[str, Sequence[str]]],
    judged: Sequence[Judged],
    judge: str,
) -> None:
    """Write answers by model, and verdicts.

    MT-bench's files hold everything. AlpacaEval's lists are added where every topic has one turn.
    """
    for model, answers in said.items():
        mt_bench.write_answers(folder / "model_answer" / f"{_file_name(model)}.jsonl", model, answers)
    games = [_game(each) for each in judged]
    mt_bench.write_games(folder / "model_judgment" / f"{_file_name(judge)}_pair.jsonl", games, judge, PROMPT_NAME)
    if any(each.match.topic.turns > 1 for each in judged):
        return
    texts = {each.match.topic.key: each.match.topic.text for each in judged}
    for model, answers in said.items():
        known = {texts[key]: turns for key, turns in answers.items() if key in texts}
        alpaca_eval.write_outputs(folder / _file_name(model) / "model_outputs.json", model, known)
    rows = [
        {
            "instruction": each.match.topic.text,
            "generator_1": each.match.model_b,
            "output_1": each.match.pair.second,
            "generator_2": each.match.model_a,
            "output_2": each.match.pair.first,
            "preference": 1 + each.verdict.points,
        }
        for each in judged
    ]
    alpaca_eval.write_annotations(folder / "annotations.json", rows, judge)


def save_scores(
    folder: Path, model: str, said: Mapping[str, Sequence[str]], scores: Sequence[Score], judge: str
) -> None:
    """Write one model's answers and their ratings, as MT-bench has them."""
    mt_bench.write_answers(folder / "model_answer" / f"{_file_name(model)}.jsonl", model, said)
    mt_bench.write_scores(
        folder / "model_judgment" / f"{_file_name(judge)}_single.jsonl", scores, judge, SINGLE_PROMPT_NAME
    )


def _game(each: Judged) -> Game:
    match, verdict = each.match, each.verdict
    shown, swapped = _won(verdict.shown), _won(verdict.swapped)
    return Game(match.topic.key, match.turn + 1, match.model_a, match.model_b, shown, swapped)


def _won(log_odds: float) -> Winner:
    """``swapped`` is already turned round: both are odds that the first model's answer is the better one."""
    return "tie" if log_odds == 0 else "model_a" if log_odds > 0 else "model_b"


def _file_name(model: str) -> str:
    return _ODD.sub("-", model).strip("-.")[:100] or "model"
