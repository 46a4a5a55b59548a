"""How a judge gives its verdict: at once, or after writing a review; the exam tells which is better.

``likelihood`` compares the probabilities of the two letters right after the question. ``written`` lets the judge write
first, as MT-bench's prompts do, and then allows it nothing but a letter: the verdict is decoded under that constraint,
so it cannot fail to be one, and how sure it is is still known.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Final

from nomoat.core.records import Note, Record
from nomoat.data.preferences import Preference
from nomoat.judge.exam import Exam, exam
from nomoat.judge.familiar import Familiar
from nomoat.judge.measure import Measuring, Subject, answers
from nomoat.judge.pairwise import Asked, Pair, chances, letter_tokens, model_judge, question
from nomoat.judge.verdict_options import MANNERS
from nomoat.model.template import prompt_ids

REVIEW_TOKENS: Final = 160
_ROOM: Final = REVIEW_TOKENS + 16
_OPEN: Final = "[["
_REVIEW: Final = (
    "Say in a few sentences what is good and what is wrong in either answer. End with your verdict: [[A]] if answer A "
    "is better, [[B]] if answer B is better."
)
_VERDICT: Final = "\n\nVerdict: [["


def reviewing_judge(subject: Subject, *, max_tokens: int = REVIEW_TOKENS, max_batch: int = 8) -> Asked:
    """A judge that writes at most ``max_tokens`` before its verdict. Raises as ``model_judge`` does."""
    candidates = letter_tokens(subject)

    def asked(pairs: Sequence[Pair]) -> Measuring[list[float]]:
        prompts = [prompt_ids(subject.base.tokenizer, subject.base.template, question(pair, _REVIEW)) for pair in pairs]
        ready = yield from after_writing(subject, prompts, _VERDICT, max_tokens=max_tokens, max_batch=max_batch)
        found = yield from chances(subject, ready, candidates, "verdicts")
        return [first - second for first, second in found]

    return asked


def after_writing(
    subject: Subject, prompts: Sequence[list[int]], ending: str, *, max_tokens: int, max_batch: int
) -> Measuring[list[list[int]]]:
    """The prompts, what the judge writes after them up to its first ``[[``, and ``ending``."""
    texts = yield from answers(subject, prompts, max_tokens=max_tokens, max_batch=max_batch)
    encode = subject.base.tokenizer.encode
    return [
        [*prompt, *encode(text.partition(_OPEN)[0].rstrip() + ending, specials=False)]
        for prompt, text in zip(prompts, texts)
    ]


def judge_of(subject: Subject, manner: str) -> Asked:
    """The judge of a manner, ``auto`` aside."""
    return reviewing_judge(subject) if manner == "written" else model_judge(subject)


def examined(
    make: Callable[[str], Asked],
    manner: str,
    labelled: Sequence[Preference],
    seed: int,
    familiar: Familiar | None = None,
) -> Generator[Record, None, tuple[Asked, Exam, str]]:
    """The judge that ``make`` gives for a manner, with its exam; for ``auto`` both sit it, and the better one is taken.

    A failure is said at once, before anybody answers anything.
    """
    names = MANNERS[:2] if manner == "auto" else (manner,)
    found: list[tuple[Asked, Exam, str]] = []
    for name in names:
        judge = make(name)
        found.append((judge, (yield from exam(judge, labelled, seed=seed, familiar=familiar)), name))
    best = max(found, key=lambda each: (each[1].passed, each[1].agreement.low))
    if len(found) > 1:
        said = ", ".join(f"{name} {result.agreement.value:.0%}" for _, result, name in found)
        yield Note(f"verdicts by {best[2]}: agreement with the labels {said}")
    if not best[1].passed:
        yield Note(best[1].withheld, warning=True)
    return best


def room_for(manner: str) -> int:
    """Tokens that a judge of this manner writes itself, at most."""
    return 0 if manner == "likelihood" else _ROOM
