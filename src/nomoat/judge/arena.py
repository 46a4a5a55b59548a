"""A blind arena: who meets whom next, on which side, and what the votes tell so far.

Names stay here until a vote is in; whoever shows the answers is given them as left and right and nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store
from nomoat.judge.ratings import Battle, Ratings, Winner, rate
from nomoat.judge.told import Progress, Told, progress, told
from nomoat.judge.topics import Topic
from nomoat.judge.votes import Answer, Vote, cast, vote_of, votes

VERDICTS: Final = ("left", "right", "tie", "both_bad")
PRIOR: Final = 1.0  # a tie with an average player, so that early ratings are finite
LONGEST_NOTE: Final = 2000
_MOST_OPEN: Final = 1000  # matches that nobody voted on; the oldest are forgotten


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A question and who answers it where. ``key`` is all that leaves the arena before the vote."""

    key: str
    asked: Topic
    left: str
    right: str
    voter: str


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A vote that is kept: its number, and the names that may be told now."""

    number: int
    left: str
    right: str


class Arena:
    """Matches between ``models`` (stack names) on ``questions``, and the votes on them.

    Not for several threads at once. ``seed`` is for tests: without one, sides come from the system's randomness.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        models: Sequence[str],
        questions: Sequence[Topic],
        *,
        seed: int | None = None,
    ) -> None:
        if len(set(models)) < 2 or len(set(models)) != len(models):
            raise UsageError("an arena needs two or more different models", hint="nomoat arena A B --data QUESTIONS")
        self.name, self.models = name, tuple(models)
        self.store, self.questions = store, tuple(questions)
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._open: dict[str, Match] = {}
        self._next = itertools.cycle(self._random.sample(self.questions, len(self.questions)))

    def match(self, asked: Topic | None = None, *, voter: str = "me") -> Match:
        """The next match: on ``asked``, else on the next question. Raises ``UsageError`` where there is neither."""
        if asked is None and not self.questions:
            raise UsageError("there are no questions", hint="type one, or give --data QUESTIONS")
        one, other = self._next_pair()
        left, right = (one, other) if self._random.random() < 0.5 else (other, one)
        found = Match(secrets.token_urlsafe(12), asked or next(self._next), left, right, voter)
        self._open[found.key] = found
        while len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return found

    def vote(
        self, key: str, verdict: str, left: Answer, right: Answer, *, note: str = "", later: tuple[str, ...] = ()
    ) -> Outcome:
        """Keep the vote on an open match, whose answers were ``left`` and ``right``; only now are names told.

        One vote is on all turns; ``later`` are the user's after the first, as many as the answers have after theirs.
        Raises ``NotFound`` for a match that is not open, ``UsageError`` for an unknown verdict.
        """
        _check(verdict, note)
        match = self._open.pop(key, None)
        if match is None:
            raise NotFound("this match is not open: it was voted on already, or the arena was restarted")
        a, b = sorted((match.left, match.right))
        answers = {match.left: left, match.right: right}
        side: Winner = "model_a" if match.left == a else "model_b"
        kept = Vote(
            self.name, match.voter, match.asked.opening, a, b, answers[a], answers[b], _winner(verdict, side),
            left=side, note=note, category=match.asked.category, later=later,
        )  # fmt: skip
        return Outcome(cast(self.store, kept), match.left, match.right)

    def vote_again(self, number: int, verdict: str, *, voter: str = "me", note: str = "") -> Outcome:
        """Replace a vote of one's own. The first stays in the record, and so does that names were known by then.

        Raises ``NotFound`` for a vote that is not this voter's, ``UsageError`` for one that was replaced already.
        """
        _check(verdict, note)
        vote = vote_of(self.store, number)
        if vote.arena != self.name or vote.voter != voter:
            raise NotFound(f"vote {number} is not yours")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        again = dataclasses.replace(
            vote, winner=_winner(verdict, vote.left), note=note or vote.note, at=now, replaces=number
        )
        names = (vote.model_a, vote.model_b) if vote.left == "model_a" else (vote.model_b, vote.model_a)
        return Outcome(cast(self.store, again), *names)

    def votes(self) -> list[Vote]:
        """The votes that stand, between this arena's models."""
        return [vote for vote in votes(self.store, self.name) if {vote.model_a, vote.model_b} <= {*self.models}]

    def battles(self) -> list[Battle]:
        """The same as the ratings take them."""
        return [vote.battle for vote in self.votes()]

    def ratings(self) -> Ratings | None:
        """Ratings with intervals; ``None`` before the first vote."""
        found = self.battles()
        return rate(found, prior=PRIOR) if found else None

    def told(self) -> list[Told]:
        """For every pair, whether it can be told apart."""
        return told(self.battles(), self.models)

    def progress(self) -> Progress:
        """How far the votes have come, without a name."""
        return progress(self.battles(), self.models)

    def _next_pair(self) -> tuple[str, str]:
        """The pair whose next vote takes off most of the uncertainty: even pairs, and those that met seldom."""
        battles = self.battles()
        ratings = rate(battles, prior=PRIOR, resamples=1) if battles else None
        place = {name: i for i, name in enumerate(ratings.models)} if ratings is not None else {}
        gains = []
        for one, other in itertools.combinations(self.models, 2):
            met, chance = 0.0, 0.5
            if ratings is not None and one in place and other in place:
                met = float(ratings.battles[place[one], place[other]])
                gap = ratings.ratings[place[one]].value - ratings.ratings[place[other]].value
                chance = 1 / (1 + 10 ** (-gap / 400))
            spread = chance * (1 - chance)
            gains.append((math.sqrt(spread / (met + 1)) - math.sqrt(spread / (met + 2)), one, other))
        best = max(gain for gain, _, _ in gains)
        return self._random.choice([(one, other) for gain, one, other in gains if gain > best - 1e-12])


def _check(verdict: str, note: str) -> None:
    if verdict not in VERDICTS:
        raise UsageError(f"{verdict!r} is no vote", hint="vote " + ", ".join(VERDICTS))
    if len(note) > LONGEST_NOTE:
        raise UsageError(f"a note holds {LONGEST_NOTE} characters at most")


def _winner(verdict: str, left: Winner) -> Winner:
    """Who won, where ``left`` stood on the left."""
    right: Winner = "model_b" if left == "model_a" else "model_a"
    sides: dict[str, Winner] = {"left": left, "right": right, "tie": "tie", "both_bad": "both_bad"}
    return sides[verdict]
