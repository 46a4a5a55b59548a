"""Answers for an arena written ahead: nobody waits for them, and every voter judges the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final

from nomoat.core.records import Done, Progress, Record
from nomoat.judge.bout import Contestants
from nomoat.judge.topics import Topic
from nomoat.judge.votes import Answer

Ahead = dict[tuple[str, str], Answer]
"""Answers to all turns, by the question's key and the model."""

_AT_ONCE: Final = 2  # as in a match, so that what an answer costs means the same


def write_ahead(
    contestants: Contestants, models: Sequence[str], questions: Sequence[Topic], ahead: Ahead
) -> Iterator[Record]:
    """Let every model answer every question that it has not answered yet; into ``ahead``, one by one.

    No record names a model. Raises what an answer raises; what was written by then is kept.
    """
    wanted = [(asked, model) for asked in questions for model in models if (asked.key, model) not in ahead]
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        writing = {pool.submit(contestants.talk, model, asked): (asked.key, model) for asked, model in wanted}
        yield Progress("answers written ahead", 0, len(wanted), "answers")
        for done, future in enumerate(as_completed(writing), start=1):
            ahead[writing[future]] = future.result()
            yield Progress("answers written ahead", done, len(wanted), "answers")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    yield Done("answers", None, {"answers": len(wanted), "questions": len(questions)})
