"""``exam``: may this judge's numbers be shown?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.options import option
from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store
from nomoat.data.preferences import Preference
from nomoat.judge import shared_options
from nomoat.judge.agreement import agreements
from nomoat.judge.examinee import Reads, open_judge
from nomoat.judge.lessons import VOTES, read_pairs
from nomoat.judge.manner import examined, room_for
from nomoat.judge.votes import votes


@dataclasses.dataclass(frozen=True, slots=True)
class ExamOptions:
    """Who is examined, and on what."""

    judge: str = shared_options.judge()
    pairs: str = option("", "labelled pairs: rows of prompt, chosen, rejected; or votes:ARENA", metavar="PATH")
    verdict: str = shared_options.verdict()
    limit: int = option(60, "examine on the first N pairs; 0: all", metavar="N")
    seed: int = option(0, "which answer stands first")

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UsageError(f"--limit cannot be {self.limit}", hint="give 0 or more")


def examine(options: ExamOptions, store: Store) -> Iterator[Record]:
    """Examine a judge; the last record is ``Done`` with the exam as plain values.

    Raises ``UsageError``, ``NotFound``, ``DataError``.
    """
    judge = yield from open_judge(store, options.judge)
    labelled, skipped = labelled_pairs(store, options.pairs, judge.reads, options.limit, room_for(options.verdict))
    if skipped:
        yield Note(f"{skipped} pairs are left out: they do not fit into the judge's context", warning=True)
    _, found, manner = yield from examined(judge.make, options.verdict, labelled, options.seed, judge.familiar)
    counts = {"pairs": len(labelled), "skipped": skipped, "voters": _voters(store, options.pairs)}
    yield Done("exam", None, {"judge": options.judge, "verdict": manner, **counts, **found.as_dict()})


def _voters(store: Store, source: str) -> dict[str, Any] | None:
    """How far the voters agree with each other where the labels are votes: no judge can agree with them more."""
    if not source.startswith(VOTES):
        return None
    found = agreements(votes(store, source.removeprefix(VOTES)))
    return found[0].as_dict() if found else None


def labelled_pairs(store: Store, source: str, reads: Reads, limit: int, room: int) -> tuple[list[Preference], int]:
    """The first ``limit`` readable pairs of a file, a folder or ``votes:ARENA``, and how many are not.

    Raises ``DataError`` where there are no pairs.
    """
    return readable(read_pairs(store, source), reads, limit, room)


def readable(pairs: Sequence[Preference], reads: Reads, limit: int, room: int = 0) -> tuple[list[Preference], int]:
    """The first ``limit`` pairs that the judge can read even with an answer said twice, and how many it cannot.

    ``room``: tokens that it writes itself.
    """
    taken: list[Preference] = []
    skipped = 0
    for each in pairs:
        if limit and len(taken) == limit:
            break
        if reads(each.messages, each.chosen * 3 + each.rejected, room):
            taken.append(each)
        else:
            skipped += 1
    return taken, skipped
