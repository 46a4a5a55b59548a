"""``duel``: two models answer the same questions, and a judge that passed its exam says whose answers are better."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Record, Sample, Saved
from nomoat.core.store import Store
from nomoat.judge.contest import answered, contestant_name, read_topics
from nomoat.judge.duel import duel
from nomoat.judge.exam import Exam
from nomoat.judge.examine import labelled_pairs
from nomoat.judge.examinee import Examinee, Reads, open_judge
from nomoat.judge.manner import examined, room_for
from nomoat.judge.pairwise import Asked, Pair, Verdict, verdicts
from nomoat.judge.saved import Judged, save_contest
from nomoat.judge.topics import Topic, pair_of
from nomoat.judge.verdict_options import DuelOptions


def against(options: DuelOptions, store: Store) -> Generator[Record]:
    """Let two models answer, examine the judge, ask it; the last record is ``Done`` with the duel.

    Yields a ``Sample`` per pair of answers, ``before`` the first model's. Raises ``UsageError``, ``NotFound``,
    ``DataError``.
    """
    topics = read_topics(store, options.data, options.limit, options.references)
    names = contestant_name(options.model_a), contestant_name(options.model_b)
    examinee = yield from open_judge(store, options.judge)
    judge, passed, manner = yield from sit_exam(
        examinee, store, options.pairs, options.exam_limit, options.verdict, options.seed
    )
    said = []
    for model in (options.model_a, options.model_b):
        said.append(
            (yield from answered(model, topics, store, max_tokens=options.max_tokens, max_batch=options.max_batch))
        )
    judged, skipped = yield from judge_all(examinee.reads, judge, manner, topics, said[0], said[1])
    if not judged:
        raise UsageError("not one pair of answers fits into the judge's context", hint="a judge with a longer one")
    for each in judged:
        yield Sample(each.topic.text, "", each.pair.first, each.pair.second)
    pairs, found = [each.pair for each in judged], [each.verdict for each in judged]
    result = {
        "model_a": names[0],
        "model_b": names[1],
        "judge": options.judge,
        "verdict": manner,
        "data": Path(options.data).name,
        "questions": len({each.topic.key for each in judged}),
        "skipped": skipped,
        "exam": passed.as_dict(),
        "duel": duel(pairs, found, passed, seed=options.seed).as_dict(),
        "verdicts": [_as_dict(each) for each in judged],
    }
    if options.save:
        folder = Path(options.save).expanduser()
        save_contest(folder, dict(zip(names, said)), [(*names, each) for each in judged], options.judge)
        yield Saved(folder, "answers and verdicts")
    yield Done("duel", None, result)


def sit_exam(
    examinee: Examinee, store: Store, pairs: str, limit: int, manner: str, seed: int
) -> Generator[Record, None, tuple[Asked, Exam, str]]:
    """Examine a judge of pairs on a file of labelled ones."""
    labelled, _ = labelled_pairs(store, pairs, examinee.reads, limit, room_for(manner))
    return (yield from examined(examinee.make, manner, labelled, seed, examinee.familiar))


def judge_all(
    reads: Reads,
    judge: Asked,
    manner: str,
    topics: Sequence[Topic],
    first: Mapping[str, Sequence[str]],
    second: Mapping[str, Sequence[str]],
) -> Generator[Record, None, tuple[list[Judged], int]]:
    """Verdicts on every turn that both answered and the judge can read, and how many turns were skipped."""
    room = room_for(manner)
    kept: list[tuple[Topic, int, Pair]] = []
    total = 0
    for topic in topics:
        for turn in range(topic.turns):
            total += 1
            if topic.key not in first or topic.key not in second:
                continue
            pair = pair_of(topic, turn, first[topic.key], second[topic.key])
            if reads(pair.messages, pair.first + pair.second + pair.reference, room):
                kept.append((topic, turn, pair))
    found = yield from verdicts(judge, [pair for _, _, pair in kept])
    return [Judged(topic, turn, pair, verdict) for (topic, turn, pair), verdict in zip(kept, found)], total - len(kept)


def _as_dict(judged: Judged) -> dict[str, Any]:
    verdict: Verdict = judged.verdict
    return {
        "question": judged.topic.key,
        "turn": judged.turn + 1,
        "prompt": judged.topic.text,
        "answer_a": judged.pair.first,
        "answer_b": judged.pair.second,
        "winner": {"first": "model_a", "second": "model_b", "tie": "tie"}[verdict.winner],
        "shown": verdict.shown,
        "swapped": verdict.swapped,
    }
