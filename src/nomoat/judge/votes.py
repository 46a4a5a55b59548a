"""Votes of people: kept for good.

A vote is never changed: who thinks again casts another that names the one it replaces, and both stay.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from nomoat.core.database import database
from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store
from nomoat.data.rows import Message
from nomoat.judge.ratings import Battle, Winner
from nomoat.judge.topics import Topic, all_said

_COLUMNS: Final = (
    "at", "arena", "voter", "prompt", "model_a", "model_b", "answer_a", "answer_b", "winner",
    "left_side", "note", "replaces", "category", "tokens_a", "tokens_b", "seconds_a", "seconds_b",
    "later", "later_a", "later_b",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and what it cost: tokens and seconds, 0 where nobody counted.

    ``later`` is what it said in the turns after the first.
    """

    text: str
    tokens: int = 0
    seconds: float = 0.0
    later: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """All turns in one text."""
        return all_said((self.text, *self.later))


def joined(turns: Sequence[Answer]) -> Answer:
    """The answers of one side, turn after turn, as one: costs add up."""
    return Answer(
        turns[0].text,
        sum(each.tokens for each in turns),
        sum(each.seconds for each in turns),
        tuple(each.text for each in turns[1:]),
    )


def apart(answer: Answer) -> list[Answer]:
    """The turns of one side again; what it cost stands with the first."""
    return [dataclasses.replace(answer, later=()), *map(Answer, answer.later)]


@dataclasses.dataclass(frozen=True, slots=True)
class Vote:
    """One judgement by a person. ``left``: which model's answer stood on the left. ``replaces``: an earlier vote.

    ``later`` are the user's turns after ``prompt``; each side answered them in its own conversation.
    """

    arena: str
    voter: str
    prompt: tuple[Message, ...]
    model_a: str
    model_b: str
    answer_a: Answer
    answer_b: Answer
    winner: Winner
    left: Winner = "model_a"
    note: str = ""
    at: str = dataclasses.field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    replaces: int | None = None
    category: str = ""
    later: tuple[str, ...] = ()

    @property
    def topic(self) -> Topic:
        """What was asked."""
        return Topic("vote", self.category, self.prompt, self.later)

    @property
    def battle(self) -> Battle:
        return Battle(self.model_a, self.model_b, self.winner)


def cast(store: Store, vote: Vote) -> int:
    """Keep a vote and return its number. Raises ``UsageError`` where it replaces one that was replaced already."""
    a, b = vote.answer_a, vote.answer_b
    values = (
        vote.at, vote.arena, vote.voter, json.dumps(vote.prompt, ensure_ascii=False), vote.model_a, vote.model_b,
        a.text, b.text, vote.winner, vote.left, vote.note, vote.replaces, vote.category, a.tokens, b.tokens,
        a.seconds, b.seconds, *(json.dumps(each, ensure_ascii=False) for each in (vote.later, a.later, b.later)),
    )  # fmt: skip
    with database(store) as connection:
        try:
            row = connection.execute(
                f"insert into vote ({', '.join(_COLUMNS)}) values ({', '.join('?' * len(_COLUMNS))})", values
            )
        except sqlite3.IntegrityError as error:
            raise UsageError(f"this vote cannot be kept: {error}") from error
    number = row.lastrowid
    assert number is not None  # sqlite3 sets it after every insert
    return number


def votes(store: Store, arena: str) -> list[Vote]:
    """The votes of an arena that stand, in the order they were cast."""
    with database(store, reading=True) as connection:
        rows = connection.execute(
            "select * from vote where arena = ? and id not in (select replaces from vote where replaces is not null)"
            " order by id",
            (arena,),
        ).fetchall()
    return [_vote(row) for row in rows]


def vote_of(store: Store, number: int) -> Vote:
    """One vote, whether it stands or was replaced. Raises ``NotFound``."""
    with database(store, reading=True) as connection:
        row = connection.execute("select * from vote where id = ?", (number,)).fetchone()
    if row is None:
        raise NotFound(f"there is no vote {number}")
    return _vote(row)


def arenas(store: Store) -> dict[str, int]:
    """The names of all arenas with the number of votes that were cast in each."""
    with database(store, reading=True) as connection:
        return dict(connection.execute("select arena, count(*) from vote group by arena order by arena").fetchall())


def _vote(row: sqlite3.Row) -> Vote:
    return Vote(
        arena=row["arena"],
        voter=row["voter"],
        prompt=tuple(json.loads(row["prompt"])),
        model_a=row["model_a"],
        model_b=row["model_b"],
        answer_a=Answer(row["answer_a"], row["tokens_a"], row["seconds_a"], tuple(json.loads(row["later_a"]))),
        answer_b=Answer(row["answer_b"], row["tokens_b"], row["seconds_b"], tuple(json.loads(row["later_b"]))),
        winner=row["winner"],
        left=row["left_side"],
        note=row["note"],
        at=row["at"],
        replaces=row["replaces"],
        category=row["category"],
        later=tuple(json.loads(row["later"])),
    )


def models_of(cast: Sequence[Vote]) -> list[str]:
    """Everybody who was voted on, by name."""
    return sorted({name for vote in cast for name in (vote.model_a, vote.model_b)})


def votes_in(store: Store, arena: str) -> list[Vote]:
    """The votes that stand. Raises ``NotFound`` for an arena without votes."""
    found = votes(store, arena)
    if not found:
        named = ", ".join(arenas(store)) or "none yet"
        raise NotFound(f"there are no votes in arena {arena!r}", hint=f"arenas with votes: {named}")
    return found
