"""Multiple-choice questions to rows: the question and its lettered options are the prompt, the letter the answer.

Read: ScienceQA (``choices``, ``answer`` an index), ARC/OpenBookQA/CommonsenseQA (labelled options, ``answerKey``,
the question perhaps an object with ``stem``), and options whose ``answer`` is the text of one of them.
"""

from __future__ import annotations

import string
from typing import Any

from nomoat.data.convert import Fit, Raw, field_text
from nomoat.data.rows import Place, Row, check_text

OPTIONS = ("choices", "options")
ANSWERS = ("answerKey", "answer", "answer_idx", "label")
CONTEXTS = ("context", "passage", "hint")


def fits(raw: Raw) -> Fit | None:
    """A question, at least two options, and an answer."""
    inner = raw["question"] if isinstance(raw.get("question"), dict) else raw
    options = next((field for field in OPTIONS if isinstance(inner.get(field), (list, dict))), None)
    answer = next((field for field in ANSWERS if raw.get(field) is not None), None)
    if "question" not in raw or options is None or answer is None:
        return None
    return Fit(f"a 'question' with {options!r} and {answer!r}", options, answer)


def convert(raw: Raw, place: Place, fit: Fit) -> list[Row]:
    """One prompt/completion row; the completion is the letter of the right option."""
    inner = raw["question"] if isinstance(raw.get("question"), dict) else raw
    stem = "stem" if isinstance(raw.get("question"), dict) else "question"
    question = field_text(inner, stem, place)
    context = next((field_text(raw, field, place) for field in CONTEXTS if raw.get(field)), "")
    labels, texts = _options(inner.get(fit.prompt), place, fit.prompt)
    letters = string.ascii_uppercase[: len(texts)]
    right = _right(raw.get(fit.completion), labels, texts, place, fit.completion)
    lines = [context, question] if context else [question]
    lines += [f"{letter}. {text}" for letter, text in zip(letters, texts)]
    return [{"prompt": "\n".join(lines), "completion": letters[right]}]


def _options(value: Any, place: Place, field: str) -> tuple[list[str], list[str]]:
    """Labels and texts of the options, from any of their three shapes."""
    if isinstance(value, dict):  # {"text": [...], "label": [...]}, as the hub stores ARC
        texts, labels = value.get("text"), value.get("label")
    elif isinstance(value, list) and all(isinstance(option, dict) for option in value):
        texts = [option.get("text") for option in value]
        labels = [option.get("label") for option in value]
    else:
        texts, labels = value, None
    if not isinstance(texts, list) or not 2 <= len(texts) <= 26:
        raise place.error("must be a list of 2 to 26 options", field=field)
    checked = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise place.error("must be text", field=f"{field}[{index}]")
        checked.append(check_text(text, place, f"{field}[{index}]"))
    if not isinstance(labels, list) or len(labels) != len(checked):
        labels = list(string.ascii_uppercase[: len(checked)])
    return [str(label) for label in labels], checked


def _right(answer: Any, labels: list[str], texts: list[str], place: Place, field: str) -> int:
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, str):
        for candidates in (texts, labels):
            if candidates.count(answer) == 1:
                return candidates.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return answer
    raise place.error(f"{answer!r} is none of the options", field=field)
