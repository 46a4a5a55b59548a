"""A match as it grows: turn after turn, each side in a conversation of its own, and one vote on the whole."""

from __future__ import annotations

import dataclasses
from typing import Final

from nomoat.core.errors import UsageError
from nomoat.judge.ahead import Ahead
from nomoat.judge.arena import Match
from nomoat.judge.bout import Contestants
from nomoat.judge.topics import Topic
from nomoat.judge.votes import Answer, apart, joined
from nomoat.serve.bout import Bout, Ready

MOST_TURNS: Final = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Talk:
    """``asked`` holds the question's own turns and those that the voter added; ``left`` and ``right``, an answer each.

    Beyond its first turn every side answers what it said itself.
    """

    match: Match
    asked: Topic
    left: tuple[Answer, ...] = ()
    right: tuple[Answer, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every turn is answered."""
        return len(self.left) >= self.asked.turns

    @property
    def turn(self) -> tuple[int, str]:
        """The number of the turn that is to be answered, from 1, and what the user says in it."""
        done = len(self.left)
        return done + 1, self.asked.later[done - 1] if done else self.asked.text

    @property
    def answers(self) -> tuple[Answer, Answer]:
        """What stands left and right, all turns together."""
        return joined(self.left), joined(self.right)

    def bout(self, contestants: Contestants, ahead: Ahead) -> Bout | Ready:
        """Ask both for the next turn, or take what both wrote ahead. Raises as ``Bout``."""
        turn, names = len(self.left), (self.match.left, self.match.right)
        known = [ahead[self.asked.key, name] for name in names if (self.asked.key, name) in ahead]
        if len(known) == len(names) and turn < self.match.asked.turns:
            left, right = (apart(answer)[turn] for answer in known)
            return Ready((left, right))
        sides = ((self.match.left, self.left), (self.match.right, self.right))
        return Bout(
            contestants, [(name, self.asked.conversation([answer.text for answer in said])) for name, said in sides]
        )

    def after(self, bout: Bout | Ready) -> Talk:
        """With the answers of a turn that is written whole."""
        left, right = bout.answers
        return dataclasses.replace(self, left=(*self.left, left), right=(*self.right, right))

    def going_on(self, text: str) -> Talk:
        """With one more turn of the user. Raises ``UsageError`` for an empty one and for one too many."""
        if not text.strip():
            raise UsageError("the further question is empty")
        if self.asked.turns >= MOST_TURNS:
            raise UsageError(f"a match has {MOST_TURNS} turns at most", hint="vote on what stands")
        return dataclasses.replace(self, asked=dataclasses.replace(self.asked, later=(*self.asked.later, text.strip())))
