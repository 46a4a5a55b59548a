"""Options that several verbs of the judge share, word for word: each gives a fresh field of an options class."""

from __future__ import annotations

from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.options import option
from nomoat.judge.manner import MANNERS


def questions() -> Any:
    return option(
        "", "questions: a data set (its test rows), a file of rows, of MT-bench or of AlpacaEval", metavar="NAME|PATH"
    )


def references() -> Any:
    return option("", "MT-bench's file of right answers, shown to the judge", metavar="PATH")


def judge() -> Any:
    return option("", "the judge: a base, an adapter, a stack, or URL#MODEL", metavar="JUDGE")


def labelled() -> Any:
    return option("", "labelled pairs for the judge's exam: a file, or votes:ARENA", metavar="PATH")


def verdict() -> Any:
    return option(
        "likelihood", "how it judges: at once, after writing a review, or as the exam shows better", choices=MANNERS
    )


def exam_limit() -> Any:
    return option(60, "examine on the first N labelled pairs; 0: all", metavar="N")


def limit() -> Any:
    return option(0, "ask the first N questions only; 0: all", metavar="N")


def max_tokens() -> Any:
    return option(256, "the longest answer in tokens", metavar="N")


def max_batch() -> Any:
    return option(16, "answers written at the same time", metavar="N")


def check_given(hint: str, **given: str) -> None:
    """Raise ``UsageError`` for the first flag that was left out."""
    for name, value in given.items():
        if not value:
            raise UsageError(f"--{name} is missing", hint=hint)
