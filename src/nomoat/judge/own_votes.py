"""How far a judge agrees with the votes of an arena, and how far the voters agree with each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nomoat.core.store import Store
from nomoat.data.preferences import Preference
from nomoat.judge.agreement import Agreement, agreements
from nomoat.judge.measure import Measuring
from nomoat.judge.pairwise import Asked, Pair, verdicts
from nomoat.judge.statistics import Interval, wilson
from nomoat.judge.votes import votes


@dataclasses.dataclass(frozen=True, slots=True)
class WithVotes:
    """``share`` of ``settled`` verdicts, those that are no tie, that are the voters'."""

    arena: str
    votes: int
    settled: int
    share: Interval

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def with_votes(judge: Asked, arena: str, voted: Sequence[Preference]) -> Measuring[WithVotes]:
    """Ask a judge what was voted on; ``voted`` are the votes with a winner."""
    found = yield from verdicts(judge, [Pair(each.messages, each.chosen, each.rejected) for each in voted])
    settled = [each.points for each in found if each.winner != "tie"]
    return WithVotes(arena, len(voted), len(settled), wilson(sum(settled), len(settled)))


def among_voters(store: Store, arena: str) -> Agreement | None:
    """How far all voters of an arena agree: who agrees with them more than that agrees with their accidents."""
    found = agreements(votes(store, arena))
    return found[0] if found else None
