"""Matches: two models' answers to one turn of a question, put before a judge that sat its exam."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence

from nomoat.core.records import Record
from nomoat.judge.examine import Examined
from nomoat.judge.examinee import within_context
from nomoat.judge.manner import room_for
from nomoat.judge.pairwise import Pair, Verdict, verdicts
from nomoat.judge.topics import Topic, pair_of


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """One turn (from 0) of a topic; the first answer of ``pair`` is ``model_a``'s."""

    model_a: str
    model_b: str
    topic: Topic
    turn: int
    pair: Pair


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A match and its verdict."""

    match: Match
    verdict: Verdict


def match_of(names: tuple[str, str], topic: Topic, turn: int, said: Sequence[Mapping[str, Sequence[str]]]) -> Match:
    """``said``: both models' answers under the topics' keys."""
    first, second = (each[topic.key] for each in said)
    return Match(*names, topic, turn, pair_of(topic, turn, first, second))


def judged(sat: Examined, matches: Sequence[Match]) -> Generator[Record, None, list[Judged]]:
    """A verdict on every match that the judge can read. Raises ``UsageError`` where it can read none."""
    room = room_for(sat.manner)
    kept = yield from within_context(
        matches, lambda each: sat.reads(each.pair.messages, each.pair.texts, room), "pairs of answers"
    )
    found = yield from verdicts(sat.judge, [each.pair for each in kept])
    return [Judged(match, verdict) for match, verdict in zip(kept, found)]
