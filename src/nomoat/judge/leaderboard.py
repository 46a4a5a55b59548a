"""What an arena's votes say, as facts: ratings, pairs, categories, cost, the voters' habits, battles to look at."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from nomoat.judge.agreement import Agreement, agreements
from nomoat.judge.arena import PRIOR
from nomoat.judge.ratings import Ratings, Winner, rate
from nomoat.judge.statistics import Interval, sign_test, wilson
from nomoat.judge.told import Told, told
from nomoat.judge.votes import Answer, Vote

SAMPLES: Final = 6
_TIES: Final = ("tie", "both_bad")


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """One model. ``place``: 1 and one more for every model that is better beyond chance."""

    place: int
    model: str
    rating: Interval
    wins: int
    ties: int
    losses: int


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """A model's share of wins, ties half, in so many battles."""

    model: str
    share: Interval
    battles: int


@dataclasses.dataclass(frozen=True, slots=True)
class Category:
    """Questions of one heading."""

    name: str
    votes: int
    shares: tuple[Share, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What a model's answers cost on the mean, written beside another's."""

    model: str
    answers: int
    tokens: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Habit:
    """How a voter votes. ``p_value``: how often a voter without a favourite side leans so far to one."""

    voter: str
    votes: int
    left: int
    right: int
    p_value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Leaderboard:
    """``shares[i][j]``: how the i-th model of ``standings`` fared against the j-th, ``None`` where they never met.

    ``changed``: votes that replaced an earlier one, cast when the names were known.
    """

    arena: str
    votes: int
    changed: int
    standings: tuple[Standing, ...]
    shares: tuple[tuple[Share | None, ...], ...]
    told: tuple[Told, ...]
    categories: tuple[Category, ...]
    costs: tuple[Spent, ...]
    habits: tuple[Habit, ...]
    agreements: tuple[Agreement, ...]
    samples: tuple[Vote, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return dataclasses.asdict(self)


def leaderboard(arena: str, votes: Sequence[Vote], models: Sequence[str]) -> Leaderboard:
    """The leaderboard of ``models`` from the votes that stand. Models that nobody met yet are left out."""
    cast = [vote for vote in votes if {vote.model_a, vote.model_b} <= set(models)]
    found = rate([vote.battle for vote in cast], prior=PRIOR) if cast else None
    names = found.models if found is not None else ()
    return Leaderboard(
        arena=arena,
        votes=len(cast),
        changed=sum(vote.replaces is not None for vote in cast),
        standings=tuple(_standing(found, name, cast) for name in names) if found is not None else (),
        shares=tuple(tuple(_against(cast, one, other) for other in names) for one in names),
        told=tuple(told([vote.battle for vote in cast], models)) if cast else (),
        categories=tuple(_categories(cast, names)),
        costs=tuple(spent for name in names if (spent := _spent(cast, name)) is not None),
        habits=tuple(_habits(cast)),
        agreements=agreements(cast),
        samples=tuple(_samples(cast)),
    )


def _standing(ratings: Ratings, name: str, votes: Sequence[Vote]) -> Standing:
    better = [other for other in ratings.models if other != name and ratings.difference(other, name).low > 0]
    results = Counter(_result(vote, name) for vote in votes)
    rating = ratings.ratings[ratings.models.index(name)]
    return Standing(1 + len(better), name, rating, results["win"], results["tie"], results["loss"])


def _result(vote: Vote, name: str) -> str:
    """``win``, ``tie``, ``loss``, or ``away`` for a battle of others."""
    if name not in (vote.model_a, vote.model_b):
        return "away"
    if vote.winner in _TIES:
        return "tie"
    own: Winner = "model_a" if vote.model_a == name else "model_b"
    return "win" if vote.winner == own else "loss"


def _share(votes: Sequence[Vote], name: str) -> Share | None:
    results = Counter(_result(vote, name) for vote in votes)
    battles = results["win"] + results["tie"] + results["loss"]
    if battles == 0:
        return None
    return Share(name, wilson(results["win"] + results["tie"] / 2, battles), battles)


def _against(votes: Sequence[Vote], name: str, other: str) -> Share | None:
    return _share([vote for vote in votes if {vote.model_a, vote.model_b} == {name, other}], name)


def _categories(votes: Sequence[Vote], models: Sequence[str]) -> list[Category]:
    """The headings of the questions; nothing where no question has one."""
    names = sorted({vote.category for vote in votes if vote.category})
    found = []
    for name in names:
        inside = [vote for vote in votes if vote.category == name]
        shares = tuple(share for model in models if (share := _share(inside, model)) is not None)
        found.append(Category(name, len(inside), shares))
    return found


def _spent(votes: Sequence[Vote], name: str) -> Spent | None:
    """``None`` where nobody counted."""
    answers = [answer for vote in votes for answer in _answers(vote, name) if answer.tokens]
    if not answers:
        return None
    tokens, seconds = (
        float(np.mean([answer.tokens for answer in answers])),
        float(np.mean([answer.seconds for answer in answers])),
    )
    return Spent(name, len(answers), tokens, seconds)


def _answers(vote: Vote, name: str) -> list[Answer]:
    sides = ((vote.model_a, vote.answer_a), (vote.model_b, vote.answer_b))
    return [answer for model, answer in sides if model == name]


def _habits(votes: Sequence[Vote]) -> list[Habit]:
    found = []
    for voter in sorted({vote.voter for vote in votes}):
        own = [vote for vote in votes if vote.voter == voter]
        decided = [vote for vote in own if vote.winner not in _TIES]
        left = sum(vote.winner == vote.left for vote in decided)
        right = len(decided) - left
        found.append(Habit(voter, len(own), left, right, sign_test(left, right)))
    return found


def _samples(votes: Sequence[Vote]) -> list[Vote]:
    """The latest battle of every pair and outcome, those with a note first."""
    latest: dict[tuple[str, str, str], Vote] = {}
    for vote in votes:
        kind = (vote.model_a, vote.model_b, vote.winner)
        if vote.note or kind not in latest or not latest[kind].note:
            latest[kind] = vote
    return sorted(latest.values(), key=lambda vote: (bool(vote.note), vote.at), reverse=True)[:SAMPLES]
