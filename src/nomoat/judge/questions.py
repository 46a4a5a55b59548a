"""A row as a question: what is asked and what is expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nomoat.data.rows import Message, Row


@dataclass(frozen=True, slots=True)
class Question:
    """What a row asks, as a person would read it, and the answer it expects."""

    prompt: str
    expected: str


def question(row: Row) -> Question | None:
    """The row's question: its prompt, or its messages up to the last answer; ``None`` for plain text."""
    if "completion" in row:
        return Question(row["prompt"], row["completion"])
    messages = row.get("messages") or []
    if not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"]:
        return None
    return Question(_shown(messages[:-1]), messages[-1]["content"])


def with_answer(row: Row, answer: str) -> Row:
    """The same row, answered differently."""
    if "completion" in row:
        return {**row, "completion": answer}
    last: dict[str, Any] = {"role": "assistant", "content": answer}
    return {**row, "messages": [*row["messages"][:-1], last]}


def _shown(messages: list[Message]) -> str:
    """One message as it is; several with their roles."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
