"""The options of the verbs that ask a judge: exam, school, duel, grade, rank. No verb's help loads the judge itself."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nomoat.core.errors import UsageError
from nomoat.core.options import option
from nomoat.train.options import PRECISIONS

MANNERS: Final = ("likelihood", "written", "auto")
KINDS: Final = ("adapter", "reward", "reward-head")


def _questions() -> Any:
    return option(
        "", "questions: a data set (its test rows), a file of rows, of MT-bench or of AlpacaEval", metavar="NAME|PATH"
    )


def _references() -> Any:
    return option("", "MT-bench's file of right answers, shown to the judge", metavar="PATH")


def _judge() -> Any:
    return option("", "the judge: a base, an adapter, a stack, or URL#MODEL", metavar="JUDGE")


def _labelled() -> Any:
    return option(
        "", "labelled pairs for the judge's exam: a file of pairs or of rated answers, or votes:ARENA", metavar="PATH"
    )


def _verdict() -> Any:
    return option(
        "likelihood", "how it judges: at once, after writing a review, or as the exam shows better", choices=MANNERS
    )


def _exam_limit() -> Any:
    return option(60, "examine on the first N labelled pairs; 0: all", metavar="N")


def _limit() -> Any:
    return option(0, "ask the first N questions only; 0: all", metavar="N")


def _max_tokens() -> Any:
    return option(256, "the longest answer in tokens", metavar="N")


def _max_batch() -> Any:
    return option(16, "answers written at the same time", metavar="N")


def _check_given(hint: str, **given: str) -> None:
    """Raise ``UsageError`` for the first flag that was left out."""
    for name, value in given.items():
        if not value:
            raise UsageError(f"--{name} is missing", hint=hint)


@dataclasses.dataclass(frozen=True, slots=True)
class ExamOptions:
    """Who is examined, and on what."""

    judge: str = _judge()
    pairs: str = option(
        "",
        "labelled pairs: chosen and rejected, ranks, or rated answers; or votes:ARENA for your own votes",
        metavar="PAIRS",
    )
    verdict: str = _verdict()
    votes: str = option("", "also say how far it agrees with your votes in this arena", metavar="ARENA")
    limit: int = option(60, "examine on the first N pairs; 0: all", metavar="N")
    seed: int = option(0, "which answer stands first")

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UsageError(f"--limit cannot be {self.limit}", hint="give 0 or more")


@dataclasses.dataclass(frozen=True, slots=True)
class SchoolOptions:
    """Who learns to judge, from what, and how."""

    judge: str = option("", "what becomes a judge: a base, an adapter, or a stack", metavar="JUDGE")
    pairs: str = option("", "labelled pairs (a file or a folder), or votes:ARENA for your own votes", metavar="PAIRS")
    name: str = option("", "the name of the judge's adapter", metavar="NAME")
    kind: str = option(
        "adapter",
        "what it becomes: an adapter that names the better of two, a reward model (an adapter and a linear head, "
        "Bradley and Terry's loss), or the head of one alone",
        choices=KINDS,
    )
    replace: bool = option(False, "replace an adapter of that name")
    held_out: float = option(0.2, "share of the pairs kept for the exam")
    exam_limit: int = option(60, "examine on the first N of those; 0: all", metavar="N")
    balance: bool = option(True, "learn as many pairs whose better answer is the longer as whose is the shorter")
    attacks: float = option(
        0.25,
        "planted attacks among the lessons, as a share of the pairs: empty answers, flattery, orders to the judge, in "
        "other words than the exam's; 0: none",
    )
    epochs: float = option(2.0, "passes over the pairs, each in both orders")
    lr: float = option(2e-4, "peak learning rate")
    rank: int = option(16, "rank of the adapter")
    batch_size: int = option(16, "rows of one step: two a pair")
    max_seq_len: int = option(1024, "tokens of the longest question; longer ones are left out")
    max_steps: int = option(0, "train this many steps, whatever the epochs say; 0: as they say")
    precision: str = option("auto", "arithmetic of the frozen matrices in training", choices=PRECISIONS)
    threads: int = option(0, "processor threads; 0: all cores")
    probe_seconds: float = option(15.0, "time for the measurements behind the prediction; 0: predict nothing")
    seed: int = option(0, "of the split, the training and the exam")

    def __post_init__(self) -> None:
        for name, value in (("pairs", self.pairs), ("name", self.name)):
            if not value:
                raise UsageError(f"{name} is missing", hint="nomoat school BASE PAIRS --name NAME")
        if not 0 < self.held_out <= 0.5:
            raise UsageError(f"--held-out cannot be {self.held_out:g}", hint="give a share up to 0.5, such as 0.2")
        if not 0 <= self.attacks <= 1:
            raise UsageError(f"--attacks cannot be {self.attacks:g}", hint="give a share up to 1, such as 0.25")


@dataclasses.dataclass(frozen=True, slots=True)
class DuelOptions:
    """Who answers what, and who judges."""

    model_a: str = option("", "a base, an adapter, a stack, or a file of answers", metavar="A")
    model_b: str = option("", "another", metavar="B")
    data: str = _questions()
    references: str = _references()
    judge: str = _judge()
    pairs: str = _labelled()
    verdict: str = _verdict()
    exam_limit: int = _exam_limit()
    limit: int = _limit()
    max_tokens: int = _max_tokens()
    max_batch: int = _max_batch()
    save: str = option("", "write answers and verdicts here, as MT-bench or AlpacaEval have them", metavar="FOLDER")
    seed: int = option(0, "of the bootstrap")

    def __post_init__(self) -> None:
        hint = "a duel needs questions, a judge, and pairs for its exam"
        _check_given(hint, data=self.data, judge=self.judge, pairs=self.pairs)


@dataclasses.dataclass(frozen=True, slots=True)
class GradeOptions:
    """Whose answers are rated, by whom and by what."""

    model: str = option("", "a base, an adapter, a stack, or a file of answers", metavar="MODEL")
    data: str = _questions()
    references: str = _references()
    judge: str = option("", "the judge: a base, an adapter, or a stack", metavar="JUDGE")
    pairs: str = _labelled()
    scores: str = option("", "rated answers (Prometheus, Auto-J) to compare the judge's ratings with", metavar="PATH")
    rubric: str = option("", "a text file that says what a good answer is; else ours", metavar="PATH")
    scale: str = option("1-10", "lowest and highest rating", metavar="LOW-HIGH")
    verdict: str = _verdict()
    exam_limit: int = _exam_limit()
    limit: int = _limit()
    max_tokens: int = _max_tokens()
    max_batch: int = _max_batch()
    save: str = option("", "write answers and ratings here, as MT-bench has them", metavar="FOLDER")
    seed: int = option(0, "of the bootstrap")

    def __post_init__(self) -> None:
        hint = "grading needs questions, a judge, and pairs for its exam"
        _check_given(hint, data=self.data, judge=self.judge, pairs=self.pairs)


@dataclasses.dataclass(frozen=True, slots=True)
class RankOptions:
    """Whose answers, to what, and who judges; or judgments that exist."""

    answers: str = option(
        "", "a folder of models' answers (MT-bench or AlpacaEval), or with --judgments, judgments", metavar="PATH"
    )
    judgments: bool = option(False, "PATH holds judgments or votes: rate by those, ask nobody")
    data: str = option("", "the questions", metavar="PATH")
    references: str = _references()
    judge: str = _judge()
    pairs: str = _labelled()
    verdict: str = _verdict()
    exam_limit: int = _exam_limit()
    battles: int = option(300, "pairs of answers to judge", metavar="N")
    limit: int = _limit()
    simulate: float = option(
        0.0,
        "ask nobody: draw the verdicts from known strengths, so many points from the best model to the worst, to see "
        "what --battles would tell",
        metavar="POINTS",
    )
    prior: float = option(1.0, "ties of every model with an average one; 0: none, which needs a finite answer")
    save: str = option("", "write the verdicts here, as MT-bench or AlpacaEval have them", metavar="FOLDER")
    seed: int = option(0, "which pairs are drawn, and the bootstrap")

    def __post_init__(self) -> None:
        if self.prior < 0 or self.battles < 1 or self.simulate < 0:
            raise UsageError("--prior and --simulate cannot be negative, nor --battles less than 1")
        if self.simulate and self.judgments:
            raise UsageError("--simulate draws verdicts, --judgments reads them", hint="leave one of them out")
        if not self.judgments:
            asked = {} if self.simulate else {"judge": self.judge, "pairs": self.pairs}
            _check_given("or give judgments and --judgments", data=self.data, **asked)
