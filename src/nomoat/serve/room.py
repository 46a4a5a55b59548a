"""An arena as a server holds it: what waits for its vote, who may come in, what work can be started."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Final

from fastapi import Request

from nomoat.core.errors import NotFound
from nomoat.judge.ahead import Ahead, write_ahead
from nomoat.judge.arena import Arena
from nomoat.judge.bout import Contestants
from nomoat.judge.examine import examine
from nomoat.judge.lessons import VOTES
from nomoat.judge.verdict_options import ExamOptions
from nomoat.serve.arena_options import COOKIE, ArenaOptions, Voters
from nomoat.serve.guard import Door
from nomoat.serve.jobs import Jobs, Kind
from nomoat.serve.talk import Talk

_MOST_ANSWERED: Final = 256  # matches that wait for their vote; the oldest are forgotten


@dataclasses.dataclass(slots=True)
class Room:
    """An arena, those who answer in it, and who may come in. ``answered``: matches that wait for their vote, by key."""

    arena: Arena
    contestants: Contestants
    options: ArenaOptions
    voters: Voters
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    answered: dict[str, Talk] = dataclasses.field(default_factory=dict)
    ahead: Ahead = dataclasses.field(default_factory=dict)
    jobs: Jobs = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self._kinds())

    def _kinds(self) -> dict[str, Kind]:
        """The work that can be started here; none of it names a model before the votes do."""
        place, judge, kinds = self.arena, self.options.judge, dict[str, Kind]()
        if place.questions:
            kinds["answers"] = Kind(
                "Write all answers ahead",
                lambda: write_ahead(self.contestants, place.models, place.questions, self.ahead),
            )
        if judge:
            asked = ExamOptions(judge=judge, pairs=f"{VOTES}{place.name}")
            kinds["exam"] = Kind(f"Let {judge} sit its exam on the votes", lambda: examine(asked, place.store))
        return kinds

    @property
    def door(self) -> Door:
        return Door(self.options.host, tuple(self.voters.names), cookie=COOKIE)

    def voter(self, http: Request) -> str:
        """Who is speaking."""
        return self.voters.of(self.door.key(http.headers))

    def remember(self, talk: Talk) -> None:
        """Keep what was said in a match until it is voted on."""
        self.answered[talk.match.key] = talk
        while len(self.answered) > _MOST_ANSWERED:
            del self.answered[next(iter(self.answered))]

    def shown(self, key: str, voter: str) -> Talk:
        """What this voter is to judge. Raises ``NotFound``."""
        talk = self.answered.get(key)
        if talk is None or talk.match.voter != voter:
            raise NotFound("this match is not open: it was voted on already, is not whole yet, or is not yours")
        return talk
