"""``duel``: two models answer the same questions, and a judge that passed its exam says whose answers are better."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.options import option
from nomoat.core.records import Done, Note, Record, Sample
from nomoat.core.store import Store
from nomoat.data.rows import Message, Row
from nomoat.engine.names import open_stack
from nomoat.judge.duel import duel
from nomoat.judge.exam import exam
from nomoat.judge.examine import labelled_pairs
from nomoat.judge.measure import Measuring, Subject, answers
from nomoat.judge.pairwise import Pair, Verdict, fits, model_judge, verdicts
from nomoat.judge.task import held_out
from nomoat.model.template import prompt_ids


@dataclasses.dataclass(frozen=True, slots=True)
class DuelOptions:
    """Who answers what, and who judges."""

    model_a: str = option("", "a base, an adapter or a stack", metavar="A")
    model_b: str = option("", "another", metavar="B")
    data: str = option("", "questions: a data set (its test rows) or a file", metavar="NAME|PATH")
    judge: str = option("", "the judge: a base, an adapter, or a stack", metavar="JUDGE")
    pairs: str = option("", "labelled pairs for the judge's exam: rows of prompt, chosen, rejected", metavar="PATH")
    exam_limit: int = option(60, "examine on the first N labelled pairs; 0: all", metavar="N")
    limit: int = option(0, "ask the first N questions only; 0: all", metavar="N")
    max_tokens: int = option(256, "the longest answer in tokens", metavar="N")
    max_batch: int = option(16, "answers written at the same time", metavar="N")
    seed: int = option(0, "of the bootstrap")

    def __post_init__(self) -> None:
        for name, value in (("data", self.data), ("judge", self.judge), ("pairs", self.pairs)):
            if not value:
                raise UsageError(f"--{name} is missing", hint="a duel needs questions, a judge, and pairs for its exam")


def against(options: DuelOptions, store: Store) -> Iterator[Record]:
    """Let two models answer, examine the judge, ask it; the last record is ``Done`` with the duel.

    Yields a ``Sample`` per question, ``before`` the first model's answer. Raises ``UsageError``, ``NotFound``,
    ``DataError``.
    """
    rows = held_out(store, options.data, options.limit)
    asked = [messages for row in rows.rows if (messages := conversation_of(row)) is not None]
    if not asked:
        raise UsageError(f"{rows.name} asks nothing: it holds plain texts", hint="give rows with prompts")
    base, worn = open_stack(store, options.judge)
    judge = Subject(base, worn, "judge", store)
    labelled, _ = labelled_pairs(options.pairs, judge, options.exam_limit)
    passed = yield from exam(model_judge(judge), labelled, seed=options.seed)
    if not passed.passed:
        yield Note("the judge failed its exam: " + "; ".join(part.remedy for part in passed.failed), warning=True)
    first = yield from _answered(options.model_a, asked, options, store)
    second = yield from _answered(options.model_b, asked, options, store)
    pairs = [Pair(messages, a, b) for messages, a, b in zip(asked, first, second)]
    readable = [pair for pair in pairs if fits(judge, pair.messages, pair.first + pair.second)]
    found = yield from verdicts(model_judge(judge), readable)
    for pair in readable:
        yield Sample(str(pair.messages[-1]["content"]), "", pair.first, pair.second)
    result = {
        "model_a": options.model_a,
        "model_b": options.model_b,
        "judge": options.judge,
        "data": rows.name,
        "questions": len(readable),
        "skipped": len(rows.rows) - len(readable),
        "exam": passed.as_dict(),
        "duel": duel(readable, found, passed, seed=options.seed).as_dict(),
        "verdicts": [_as_dict(pair, verdict) for pair, verdict in zip(readable, found)],
    }
    yield Done("duel", None, result)


def conversation_of(row: Row) -> tuple[Message, ...] | None:
    """A row's conversation up to what the user said last; ``None`` for a plain text."""
    if "prompt" in row:
        return ({"role": "user", "content": row["prompt"]},)
    messages: Sequence[Message] = row.get("messages", ())
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
    return tuple(messages[: last + 1]) if last is not None else None


def _answered(
    name: str, asked: Sequence[tuple[Message, ...]], options: DuelOptions, store: Store
) -> Measuring[list[str]]:
    base, worn = open_stack(store, name)
    prompts = [prompt_ids(base.tokenizer, base.template, messages) for messages in asked]
    subject = Subject(base, worn, name, store)
    return (yield from answers(subject, prompts, max_tokens=options.max_tokens, max_batch=options.max_batch))


def _as_dict(pair: Pair, verdict: Verdict) -> dict[str, Any]:
    return {
        "prompt": pair.messages[-1]["content"],
        "answer_a": pair.first,
        "answer_b": pair.second,
        "winner": {"first": "model_a", "second": "model_b", "tie": "tie"}[verdict.winner],
        "shown": verdict.shown,
        "swapped": verdict.swapped,
    }
