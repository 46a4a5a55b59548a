"""``exam``: may this judge's numbers be shown?"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store
from nomoat.data.preferences import Preference
from nomoat.judge.examinee import Reads, open_judge
from nomoat.judge.lessons import VOTES, read_pairs
from nomoat.judge.manner import examined, room_for
from nomoat.judge.own_votes import among_voters, with_votes
from nomoat.judge.verdict_options import ExamOptions


def examine(options: ExamOptions, store: Store) -> Generator[Record]:
    """Examine a judge; the last record is ``Done`` with the exam as plain values.

    Raises ``UsageError``, ``NotFound``, ``DataError``.
    """
    judge = yield from open_judge(store, options.judge)
    labelled, skipped = labelled_pairs(store, options.pairs, judge.reads, options.limit, room_for(options.verdict))
    if skipped:
        yield Note(f"{skipped} pairs are left out: they do not fit into the judge's context", warning=True)
    asked, found, manner = yield from examined(judge.make, options.verdict, labelled, options.seed, judge.familiar)
    result = {"judge": options.judge, "verdict": manner, "pairs": len(labelled), "skipped": skipped, **found.as_dict()}
    result |= {"votes": None, "voters": None}
    arena = options.votes or (options.pairs.removeprefix(VOTES) if options.pairs.startswith(VOTES) else "")
    if arena:
        voters = among_voters(store, arena)
        result["voters"] = voters.as_dict() if voters is not None else None
    if options.votes:
        voted, _ = labelled_pairs(store, f"{VOTES}{arena}", judge.reads, options.limit, room_for(options.verdict))
        result["votes"] = (yield from with_votes(asked, arena, voted)).as_dict()
    yield Done("exam", None, result)


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
