"""Server-sent events as OpenAI writes them, newline-delimited JSON as Ollama does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Final

from nomoat.core.errors import NomoatError
from nomoat.serve.errors import ollama_body, openai_body

SSE_TYPE = "text/event-stream"
NDJSON_TYPE = "application/x-ndjson"


def sse(value: Any, *, event: str = "") -> bytes:
    """One event. JSON has no bare newlines, so one ``data`` line holds it."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {_json(value)}\n\n".encode()


def ndjson(value: Any) -> bytes:
    """One line."""
    return f"{_json(value)}\n".encode()


def _json(value: Any) -> str:
    # Half a surrogate pair cannot be sent as UTF-8; ASCII escapes can carry it.
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Wire:
    """How an API streams: its media type, how it says an error once the status has gone out, and what it ends with."""

    media_type: str
    failed: Callable[[NomoatError], bytes]
    end: bytes = b""


OPENAI: Final = Wire(SSE_TYPE, lambda error: sse(openai_body(error)), b"data: [DONE]\n\n")
OLLAMA: Final = Wire(NDJSON_TYPE, lambda error: ndjson(ollama_body(error)))
