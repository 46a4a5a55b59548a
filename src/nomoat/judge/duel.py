"""``duel``: two models answer the same questions, and a judge that passed its exam says whose answers are better."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Record, Sample, Saved
from nomoat.core.store import Store
from nomoat.judge.contest import answered, contestant_name, read_topics
from nomoat.judge.examine import Examined, sit_exam
from nomoat.judge.examinee import open_judge
from nomoat.judge.matches import Judged, judged, match_of
from nomoat.judge.saved import save_contest
from nomoat.judge.verdict_options import DuelOptions
from nomoat.judge.win_rates import win_rates


def duel(options: DuelOptions, store: Store) -> Generator[Record]:
    """Examine the judge, let two models answer, ask it; the last record is ``Done`` with the win rates.

    Yields a ``Sample`` per pair of answers, ``before`` the first model's. Raises ``UsageError``, ``NotFound``,
    ``DataError``.
    """
    topics = read_topics(store, options.data, options.limit, options.references)
    names = contestant_name(options.model_a), contestant_name(options.model_b)
    judge = yield from open_judge(store, options.judge)
    sat = yield from sit_exam(
        judge, store, options.pairs, manner=options.verdict, limit=options.exam_limit, seed=options.seed
    )
    said = []
    for model in (options.model_a, options.model_b):
        said.append(
            (yield from answered(model, topics, store, max_tokens=options.max_tokens, max_batch=options.max_batch))
        )
    both = [topic for topic in topics if topic.key in said[0] and topic.key in said[1]]
    if not both:
        raise UsageError("no question has an answer of both", hint="a larger context, or fewer --max-tokens")
    matches = [match_of(names, topic, turn, said) for topic in both for turn in range(topic.turns)]
    found = yield from judged(sat, matches)
    for each in found:
        yield Sample(each.match.topic.text, "", each.match.pair.first, each.match.pair.second)
    if options.save:
        folder = Path(options.save).expanduser()
        save_contest(folder, dict(zip(names, said)), found, options.judge)
        yield Saved(folder, "answers and verdicts")
    yield Done("duel", None, _result(options, names, sat, found, sum(topic.turns for topic in topics)))


def _result(
    options: DuelOptions, names: tuple[str, str], sat: Examined, found: list[Judged], asked: int
) -> dict[str, Any]:
    rates = win_rates(
        [each.match.pair for each in found], [each.verdict for each in found], sat.exam, seed=options.seed
    )
    return {
        "model_a": names[0],
        "model_b": names[1],
        "judge": options.judge,
        "verdict": sat.manner,
        "data": Path(options.data).name,
        "questions": len({each.match.topic.key for each in found}),
        "skipped": asked - len(found),
        "exam": sat.exam.as_dict(),
        "duel": rates.as_dict(),
        "verdicts": [_as_dict(each) for each in found],
    }


_WINNERS: Final = {"first": "model_a", "second": "model_b", "tie": "tie"}


def _as_dict(each: Judged) -> dict[str, Any]:
    return {
        "question": each.match.topic.key,
        "turn": each.match.turn + 1,
        "prompt": each.match.topic.text,
        "answer_a": each.match.pair.first,
        "answer_b": each.match.pair.second,
        "winner": _WINNERS[each.verdict.winner],
        "shown": each.verdict.shown,
        "swapped": each.verdict.swapped,
    }
