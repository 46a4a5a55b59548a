"""``exam``: may this judge's numbers be shown?"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store
from nomoat.data.preferences import Preference
from nomoat.judge.exam import Exam
from nomoat.judge.examinee import Examinee, Reads, open_judge
from nomoat.judge.lessons import VOTES, read_pairs
from nomoat.judge.manner import examined, room_for
from nomoat.judge.own_votes import among_voters, with_votes
from nomoat.judge.pairwise import Asked
from nomoat.judge.verdict_options import ExamOptions


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A judge that sat its exam in ``manner``, on so many ``pairs``; ``skipped`` more it could not read."""

    judge: Asked
    exam: Exam
    manner: str
    reads: Reads
    pairs: int
    skipped: int


def examine(options: ExamOptions, store: Store) -> Generator[Record]:
    """Examine a judge; the last record is ``Done`` with the exam as plain values.

    Raises ``UsageError``, ``NotFound``, ``DataError``.
    """
    judge = yield from open_judge(store, options.judge)
    sat = yield from sit_exam(
        judge, store, options.pairs, manner=options.verdict, limit=options.limit, seed=options.seed
    )
    result: dict[str, Any] = {"judge": options.judge, "verdict": sat.manner, "pairs": sat.pairs, "skipped": sat.skipped}
    result |= {**sat.exam.as_dict(), "votes": None, "voters": None}
    arena = options.votes or (options.pairs.removeprefix(VOTES) if options.pairs.startswith(VOTES) else "")
    if arena:
        voters = among_voters(store, arena)
        result["voters"] = voters.as_dict() if voters is not None else None
    if options.votes:
        voted, _ = labelled_pairs(store, f"{VOTES}{arena}", judge.reads, options.limit, room_for(options.verdict))
        result["votes"] = (yield from with_votes(sat.judge, arena, voted)).as_dict()
    yield Done("exam", None, result)


def sit_exam(
    judge: Examinee, store: Store, pairs: str, *, manner: str, limit: int, seed: int
) -> Generator[Record, None, Examined]:
    """Examine a judge on the first ``limit`` of the labelled ``pairs`` that it can read.

    Raises ``DataError`` where these are too few.
    """
    labelled, skipped = labelled_pairs(store, pairs, judge.reads, limit, room_for(manner))
    if skipped:
        yield Note(f"{skipped} labelled pairs are left out: they do not fit into the judge's context", warning=True)
    asked, found, taken = yield from examined(judge.make, manner, labelled, seed, judge.familiar)
    return Examined(asked, found, taken, judge.reads, len(labelled), skipped)


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
