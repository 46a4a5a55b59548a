"""``rank``: many models that answered the same questions, rated by a judge that passed its exam, or by given judgments.

The judge is asked about pairs drawn at random, each model as often as the others, and every pair in both orders;
Bradley and Terry's model makes ratings of the verdicts (``ratings.py``).
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import DataError
from nomoat.core.records import Done, Record, Saved
from nomoat.core.store import Store
from nomoat.judge.contest import chosen, read_given, read_topics
from nomoat.judge.exam import Exam
from nomoat.judge.examine import sit_exam
from nomoat.judge.examinee import open_judge
from nomoat.judge.given import battles_of, rates_against
from nomoat.judge.matches import Match, judged, match_of
from nomoat.judge.ratings import Battle, Ratings, Winner, rate
from nomoat.judge.saved import save_contest
from nomoat.judge.simulated import beside_planted, planted_strengths, simulated
from nomoat.judge.verdict_options import RankOptions


def rank(options: RankOptions, store: Store) -> Generator[Record]:
    """Rate all models; the last record is ``Done`` with ratings, or with the reason why they are withheld.

    Raises ``UsageError``, ``NotFound``, ``DataError``.
    """
    path = Path(options.answers).expanduser()
    result: dict[str, Any] = {"withheld": "", "exam": None, "against": [], "simulation": None}
    strengths: dict[str, float] = {}
    if options.judgments:
        battles = battles_of(path)
        result["against"] = [dataclasses.asdict(each) for each in rates_against(path, seed=options.seed)]
    elif options.simulate:
        matches = _drawn(path, options, store)
        strengths = planted_strengths(_models(matches), options.simulate, seed=options.seed)
        battles = simulated(matches, strengths, seed=options.seed)
    else:
        battles, exam = yield from _judged(_drawn(path, options, store), options, store)
        result |= {"exam": exam.as_dict(), "withheld": exam.withheld}
    result["battles"] = len(battles)
    if not result["withheld"]:
        found = rate(battles, prior=options.prior, seed=options.seed)
        result |= _table(found)
        result["simulation"] = beside_planted(found, strengths, seed=options.seed) if strengths else None
    yield Done("rank", None, result)


def _judged(
    matches: Sequence[Match], options: RankOptions, store: Store
) -> Generator[Record, None, tuple[list[Battle], Exam]]:
    judge = yield from open_judge(store, options.judge)
    sat = yield from sit_exam(
        judge, store, options.pairs, manner=options.verdict, limit=options.exam_limit, seed=options.seed
    )
    found = yield from judged(sat, matches)
    if options.save:
        folder = Path(options.save).expanduser()
        save_contest(folder, {}, found, options.judge)
        yield Saved(folder, "verdicts")
    battles = [Battle(each.match.model_a, each.match.model_b, _WINNERS[each.verdict.winner]) for each in found]
    return battles, sat.exam


_WINNERS: Final[dict[str, Winner]] = {"first": "model_a", "second": "model_b", "tie": "tie"}


def _drawn(path: Path, options: RankOptions, store: Store) -> list[Match]:
    """Pairs of models in turn, in an order drawn anew for each round, on turns drawn at random."""
    topics = read_topics(store, options.data, options.limit, options.references)
    said = {model: chosen(topics, each) for model, each in read_given(path).items()}
    said = {model: each for model, each in said.items() if each}
    if len(said) < 2:
        raise DataError(f"answers of {len(said)} models to these questions: a ranking takes two", file=path)
    rng = random.Random(options.seed)
    meetings = {
        (a, b): [topic for topic in topics if topic.key in said[a] and topic.key in said[b]]
        for a, b in itertools.combinations(sorted(said), 2)
    }
    order = [pair for pair, common in meetings.items() if common]
    if not order:
        raise DataError("no two models answered the same question", hint="give answers to one list of questions")
    drawn: list[Match] = []
    while len(drawn) < options.battles:
        rng.shuffle(order)
        for a, b in order[: options.battles - len(drawn)]:
            topic = rng.choice(meetings[a, b])
            drawn.append(match_of((a, b), topic, rng.randrange(topic.turns), (said[a], said[b])))
    return drawn


def _models(matches: Sequence[Match]) -> list[str]:
    return sorted({name for each in matches for name in (each.model_a, each.model_b)})


def _table(found: Ratings) -> dict[str, Any]:
    """Ratings from the strongest, how often each met anybody, and which neighbours the intervals tell apart."""
    models = [
        {"model": name, **rating.as_dict(), "battles": float(met)}
        for name, rating, met in zip(found.models, found.ratings, found.battles.sum(axis=1))
    ]
    gaps = [
        {"better": better, "worse": worse, **found.difference(better, worse).as_dict()}
        for better, worse in itertools.pairwise(found.models)
    ]
    return {"ratings": models, "neighbours": gaps}
