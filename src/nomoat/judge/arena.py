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
from typing import Final

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store
from nomoat.data.rows import Message
from nomoat.judge.enough import enough, votes_missing
from nomoat.judge.ratings import Battle, Ratings, Winner, rate
from nomoat.judge.votes import Vote, cast, votes

VERDICTS: Final = ("left", "right", "tie", "both_bad")
PRIOR: Final = 1.0  # a tie with an average player, so that early ratings are finite
_LONGEST_NOTE: Final = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A question and who answers it where. ``key`` is all that leaves the arena before the vote."""

    key: str
    prompt: tuple[Message, ...]
    left: str
    right: str


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """Whether two models can be told apart. ``missing``: the fewest votes that could settle it, 0 when settled."""

    better: str
    worse: str
    wins: int
    losses: int
    missing: int

    @property
    def sentence(self) -> str:
        score = f"{self.wins} to {self.losses}"
        if self.missing == 0:
            return f"{self.better} is preferred to {self.worse}, {score}: enough votes to tell"
        return f"{self.better} and {self.worse}, {score}: cannot be told with fewer than {self.missing} more"


class Arena:
    """Matches between ``models`` (stack names) on ``prompts``, and the votes on them.

    Not for several threads at once.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        models: Sequence[str],
        prompts: Sequence[tuple[Message, ...]],
        *,
        seed: int | None = None,
    ) -> None:
        if len(set(models)) < 2 or len(set(models)) != len(models):
            raise UsageError("an arena needs two or more different models", hint="nomoat arena A B --data QUESTIONS")
        self.name, self.models = name, tuple(models)
        self._store, self._prompts = store, list(prompts)
        self._random = random.Random(seed)
        self._open: dict[str, Match] = {}
        self._asked = itertools.cycle(self._random.sample(self._prompts, len(self._prompts))) if prompts else None

    def match(self, prompt: tuple[Message, ...] | None = None) -> Match:
        """The next match: on ``prompt``, else on the next question. Raises ``UsageError`` where there is neither."""
        if prompt is None and self._asked is None:
            raise UsageError("there are no questions", hint="type one, or give --data QUESTIONS")
        asked = prompt if prompt is not None or self._asked is None else next(self._asked)
        assert asked is not None
        one, other = self._next_pair()
        left, right = (one, other) if self._random.random() < 0.5 else (other, one)
        found = Match(secrets.token_urlsafe(12), asked, left, right)
        self._open[found.key] = found
        return found

    def vote(self, key: str, verdict: str, left: str, right: str, *, voter: str = "me", note: str = "") -> Match:
        """Keep the vote on an open match, whose answers were ``left`` and ``right``; only now are names told.

        Raises ``NotFound`` for a match that is not open, ``UsageError`` for an unknown verdict.
        """
        if verdict not in VERDICTS:
            raise UsageError(f"{verdict!r} is no vote", hint="vote " + ", ".join(VERDICTS))
        if len(note) > _LONGEST_NOTE:
            raise UsageError(f"a note holds {_LONGEST_NOTE} characters at most")
        match = self._open.pop(key, None)
        if match is None:
            raise NotFound("this match is not open: it was voted on already, or the arena was restarted")
        a, b = sorted((match.left, match.right))
        answers = {match.left: left, match.right: right}
        sides: dict[str, Winner] = {
            "left": "model_a" if match.left == a else "model_b",
            "right": "model_a" if match.right == a else "model_b",
            "tie": "tie",
            "both_bad": "both_bad",
        }
        kept = Vote(
            self.name, voter, match.prompt, a, b, answers[a], answers[b], sides[verdict], left=sides["left"], note=note
        )
        cast(self._store, kept)
        return match

    def battles(self) -> list[Battle]:
        """The votes that stand, between this arena's models."""
        return [vote.battle for vote in votes(self._store, self.name) if {vote.model_a, vote.model_b} <= {*self.models}]

    def ratings(self) -> Ratings | None:
        """Ratings with intervals; ``None`` before the first vote."""
        found = self.battles()
        return rate(found, prior=PRIOR) if found else None

    def told(self) -> list[Told]:
        """For every pair that met, whether it can be told apart, ties left out."""
        score = _scores(self.battles())
        pairs = math.comb(len(self.models), 2)
        found = []
        for (a, b), (wins, losses) in sorted(score.items()):
            better, worse = (a, b) if wins >= losses else (b, a)
            high, low = max(wins, losses), min(wins, losses)
            missing = 0 if enough(high, low, comparisons=pairs) else votes_missing(high, low, comparisons=pairs)
            found.append(Told(better, worse, high, low, missing))
        return found

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


def _scores(battles: Sequence[Battle]) -> dict[tuple[str, str], tuple[int, int]]:
    """By pair in alphabetical order, the wins of each."""
    score: dict[tuple[str, str], tuple[int, int]] = {}
    for battle in battles:
        a, b = sorted((battle.model_a, battle.model_b))
        wins, losses = score.get((a, b), (0, 0))
        if battle.winner in ("model_a", "model_b"):
            winner = battle.model_a if battle.winner == "model_a" else battle.model_b
            wins, losses = (wins + 1, losses) if winner == a else (wins, losses + 1)
        score[a, b] = wins, losses
    return score
