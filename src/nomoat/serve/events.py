"""Server-sent events as OpenAI writes them, newline-delimited JSON as Ollama does."""

from __future__ import annotations

import json
from typing import Any

DONE = b"data: [DONE]\n\n"
SSE_TYPE = "text/event-stream"
NDJSON_TYPE = "application/x-ndjson"
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


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
