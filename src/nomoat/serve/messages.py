"""Messages of a conversation as OpenAI's clients send them, and as chat templates take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from nomoat.serve.errors import RequestError
from nomoat.serve.fields import Fields, Text

MAX_MESSAGES = 4096


class TextPart(Fields):
    type: str
    text: Text | None = None


class CalledFunction(Fields):
    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCall(Fields):
    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Fields):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Plain data for templates. Raises ``RequestError`` for parts that are not text."""
    return [_plain(message, place) for place, message in enumerate(messages)]


def _plain(message: Message, place: int) -> dict[str, Any]:
    fields = message.model_dump(exclude_none=True, exclude={"content", "role"})
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": _text(message.content, place), **fields}


def _text(content: str | list[TextPart] | None, place: int) -> str:
    if not isinstance(content, list):
        return content or ""
    for part in content:
        if part.type not in ("text", "input_text", "output_text") or part.text is None:
            raise RequestError(
                f"messages.{place}: a part of type {part.type[:40]!r} is not supported", param="messages",
                hint="this model reads text",
            )  # fmt: skip
    return "".join(part.text or "" for part in content)
