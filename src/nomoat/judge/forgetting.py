"""The forgetting guard: what an adapter costs elsewhere, on general text and general questions we ship.

``kept`` is a claim of non-inferiority: the 95 % interval of the harm ends below a margin. ``forgot`` says that there
is harm (the interval excludes none) and that it may be larger than the margin. Anything else cannot be told.
"""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from nomoat.judge.measure import Measuring, RowLoss, Subject, losses
from nomoat.judge.verdict import LOG_PERPLEXITY, Comparison, compare_means, compare_shares
from nomoat.model.load import Base
from nomoat.model.template import Encoded

Retention = Literal["kept", "forgot", "cannot tell"]

TEXT_MARGIN = math.log(1.05)
"""Harm that is let pass: perplexity of general text up by 5 %."""

QUESTION_MARGIN = 0.10
"""Harm that is let pass: ten points fewer questions right; 64 questions cannot show less with confidence."""

ALLOWED = "perplexity up by 5 %, ten points fewer questions right"


@dataclasses.dataclass(frozen=True, slots=True)
class GeneralQuestion:
    """Four choices; ``answer`` is the index of the right one."""

    question: str
    choices: tuple[str, ...]
    answer: int


def general_text() -> list[str]:
    """The passages of ``data/general_text.jsonl``."""
    return [line["text"] for line in _lines("general_text.jsonl")]


def general_questions() -> list[GeneralQuestion]:
    """The questions of ``data/general_choices.jsonl``."""
    return [
        GeneralQuestion(line["question"], tuple(line["choices"]), line["answer"])
        for line in _lines("general_choices.jsonl")
    ]


def _lines(name: str) -> list[dict[str, Any]]:
    text = files("nomoat.judge").joinpath("data", name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@dataclasses.dataclass(frozen=True, slots=True)
class General:
    """What a subject does in general: a loss per passage, and whether each question was answered right."""

    passages: list[RowLoss]
    right: list[bool]


def general(subject: Subject) -> Measuring[General]:
    """Measure one subject; of a bare base it is kept for the next time."""
    passages = [_passage(text, subject.base) for text in general_text()]
    read = yield from losses(subject, [row for row in passages if len(row.ids) > 1], "general text")
    return General(read, (yield from _right_choices(subject)))


def guard(before: Subject, after: Subject, *, seed: int = 0) -> Measuring[dict[str, Any]]:
    """Measure both subjects; the result holds ``verdict`` (the worse of the parts), ``allowed`` and ``parts``."""
    was = yield from general(before)
    now = yield from general(after)
    questions = compare_shares("general questions answered right", np.array(was.right), np.array(now.right), seed=seed)
    parts = [_part(_compare_text(was.passages, now.passages, seed), TEXT_MARGIN), _part(questions, QUESTION_MARGIN)]
    words = [part["verdict"] for part in parts]
    verdict = next(word for word in ("forgot", "cannot tell", "kept") if word in words)
    return {"verdict": verdict, "allowed": ALLOWED, "parts": parts}


def _compare_text(before: list[RowLoss], after: list[RowLoss], seed: int) -> Comparison:
    tokens = np.array([row.tokens for row in before], dtype=np.float64)
    return compare_means(
        "perplexity of general text",
        LOG_PERPLEXITY,
        np.array([row.nll for row in before]) / tokens,
        np.array([row.nll for row in after]) / tokens,
        tokens,
        higher_is_better=False,
        seed=seed,
    )


def _part(compared: Comparison, margin: float) -> dict[str, Any]:
    return {**compared.as_dict(), "verdict": retention(compared, margin), "margin": margin}


def retention(compared: Comparison, margin: float) -> Retention:
    """Whether the harm is smaller than ``margin``, real, or neither for certain."""
    sign = -1 if compared.higher_is_better else 1
    low, high = sorted((sign * compared.difference.low, sign * compared.difference.high))
    if high < margin:
        return "kept"
    return "forgot" if low > 0 else "cannot tell"


def _passage(text: str, base: Base) -> Encoded:
    ids = _with_bos(base.tokenizer.encode(text, specials=False), base)[: base.decoder.config.max_seq_len]
    return Encoded(ids=ids, loss_mask=[True] * len(ids))


def _with_bos(ids: list[int], base: Base) -> list[int]:
    bos = base.tokenizer.bos_id
    return [bos, *ids] if base.tokenizer.adds_bos and bos is not None else ids


def _right_choices(subject: Subject) -> Measuring[list[bool]]:
    """Whether the right choice is the likeliest, per byte of its text, as a plain continuation.

    Plain text and not a chat, so that a base without a chat template is asked the same way.
    """
    questions = general_questions()
    rows = [_choice(asked.question, choice, subject.base) for asked in questions for choice in asked.choices]
    measured = yield from losses(subject, rows, "general questions")
    right, start = [], 0
    for asked in questions:
        found = measured[start : start + len(asked.choices)]
        start += len(asked.choices)
        each_byte = [row.nll / len(choice.encode()) for row, choice in zip(found, asked.choices)]
        right.append(each_byte.index(min(each_byte)) == asked.answer)
    return right


def _choice(question: str, choice: str, base: Base) -> Encoded:
    """The question and one choice; only what differs from the question alone is scored."""
    asked = f"Question: {question}\nAnswer:"
    prompt = _with_bos(base.tokenizer.encode(asked, specials=False), base)
    whole = _with_bos(base.tokenizer.encode(f"{asked} {choice}", specials=False), base)
    shared = next((i for i, (a, b) in enumerate(zip(prompt, whole)) if a != b), len(prompt))
    return Encoded(ids=whole, loss_mask=[False] * shared + [True] * (len(whole) - shared))
