"""Bodies of Ollama's API, and the chat or completion that they mean.

Fields: github.com/ollama/ollama, docs/api.md. ``options`` holds how to draw; what has no meaning here (``num_gpu``,
``num_thread``, ``keep_alive`` ...) is ignored. A conversation longer than the context is an error here and not
silently cut, unless ``truncate`` is true.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from nomoat.serve.body import check
from nomoat.serve.chat import ChatBody
from nomoat.serve.completions import CompletionBody
from nomoat.serve.errors import RequestError
from nomoat.serve.fields import Fields, Text

_NAMES = {"repeat_penalty": "repetition_penalty"}
_DRAWING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
)
# Ollama's own, where a request says nothing.
_DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}


class Common(Fields):
    model: Annotated[str, Field(max_length=4096)]
    stream: bool | None = True
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    truncate: bool | None = False


class ChatRequest(Common):
    messages: Annotated[list[dict[str, Any]], Field(max_length=4096)] = []  # noqa: RUF012  (pydantic copies it)
    tools: list[dict[str, Any]] | None = None


class GenerateRequest(Common):
    prompt: Text = ""
    system: Text = ""
    suffix: str | None = None
    images: list[Any] | None = None
    raw: bool | None = False
    template: str | None = None
    context: list[int] | None = None


class ShowRequest(Fields):
    model: Annotated[str, Field(max_length=4096)] = ""
    name: Annotated[str, Field(max_length=4096)] = ""  # what older clients send


def chat_of(body: ChatRequest) -> ChatBody:
    """The chat request. Raises ``RequestError``."""
    values = _common(body) | {
        "messages": [_message(message, place) for place, message in enumerate(body.messages)],
        "tools": body.tools or None,
        "max_completion_tokens": _limit(body),
    }
    return check(values, ChatBody)


def chat_of_prompt(body: GenerateRequest) -> ChatBody:
    """The chat request that a prompt means: one turn, with a system message where there is one."""
    for name, value in (("images", body.images), ("suffix", body.suffix), ("template", body.template)):
        if value:
            raise RequestError(f"{name!r} is not supported", param=name, code="unsupported_parameter")
    system = [{"role": "system", "content": body.system}] if body.system else []
    values = _common(body) | {
        "messages": [*system, {"role": "user", "content": body.prompt}],
        "max_completion_tokens": _limit(body),
    }
    return check(values, ChatBody)


def completion_of(body: GenerateRequest) -> CompletionBody:
    """The completion that a raw prompt means."""
    limit = _limit(body)
    return check(_common(body) | {"prompt": body.prompt, "max_tokens": limit or 1 << 30}, CompletionBody)


def _common(body: Common) -> dict[str, Any]:
    options = {key: value for key, value in (body.options or {}).items() if value is not None}
    values = {_NAMES.get(key, key): options[key] for key in _DRAWING if key in options}
    values["seed"] = None if values.get("seed") == -1 else values.get("seed")
    return {
        **_DEFAULTS,
        **values,
        "model": body.model,
        "response_format": _format(body.format),
        "truncate_prompt_tokens": -1 if body.truncate else None,
    }


def _limit(body: Common) -> int | None:
    """``num_predict``: -1 and -2 are as many as fit."""
    limit = (body.options or {}).get("num_predict")
    if limit is None or (isinstance(limit, int) and limit < 0):
        return None
    if not isinstance(limit, int) or limit == 0:
        raise RequestError("options.num_predict must be a number above 0, or -1", param="options")
    return limit


def _format(form: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not form:
        return None
    if isinstance(form, dict):
        return {"type": "json_schema", "json_schema": {"schema": form}}
    if form != "json":
        raise RequestError("'format' is \"json\" or a JSON schema", param="format")
    return {"type": "json_object"}


def _message(message: Mapping[str, Any], place: int) -> dict[str, Any]:
    """OpenAI's shape: calls get numbers, and results refer to the call of their name."""
    if message.get("images"):
        raise RequestError(f"messages.{place}: this model reads text", param="messages")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(
        isinstance(call, dict) and isinstance(call.get("function"), dict) for call in calls
    ):
        raise RequestError(f"messages.{place}.tool_calls is not a list of calls", param="messages")
    copy = {key: message[key] for key in ("role", "content") if key in message}
    if message.get("role") == "tool":
        copy["tool_call_id"] = str(message.get("tool_name") or message.get("name") or "")
    if calls:
        copy["tool_calls"] = [
            {"id": str(call["function"].get("name")), "function": {**call["function"], "arguments": _arguments(call)}}
            for call in calls
        ]
    return copy


def _arguments(call: Mapping[str, Any]) -> str:
    arguments = call["function"].get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
