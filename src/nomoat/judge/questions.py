"""A row as a question: what is asked, what is expected, and the answers that are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What a row asks. ``choices`` holds the allowed answers, the expected one among them, or nothing."""

    prompt: str
    expected: str
    choices: tuple[str, ...] = ()


def question(row: Row) -> Question | None:
    """The row's question: its prompt, or its messages up to the last answer; ``None`` for plain text."""
    choices = tuple(str(choice) for choice in row.get("choices") or ())
    if "completion" in row:
        return Question(row["prompt"], row["completion"], choices)
    messages = row.get("messages") or []
    if not messages or messages[-1]["role"] != "assistant" or not messages[-1].get("content"):
        return None
    return Question(_shown(messages[:-1]), messages[-1]["content"], choices)


def with_answer(row: Row, answer: str) -> dict[str, Any]:
    """The same row, answered differently."""
    if "completion" in row:
        return {**row, "completion": answer}
    return {**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": answer}]}


def _shown(messages: list[dict[str, Any]]) -> str:
    """One message as it is; several with their roles."""
    if len(messages) == 1:
        return str(messages[0].get("content") or "")
    return "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in messages)
