"""Tools: how a template's model writes calls, what the prompt says of them, and messages that hold calls.

Formats, by what the template's source shows:

- ``hermes`` (Hermes 2 Pro, Qwen 2.5 and 3): ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``;
- ``mistral``: ``[TOOL_CALLS][{"name": ..., "arguments": {...}}]``, later ``[TOOL_CALLS]name[ARGS]{...}``;
- ``llama`` (Llama 3.x): ``{"name": ..., "parameters": {...}}``, perhaps after ``<|python_tag|>``;
- ``json``: a template without tools of its own; a system message explains them and asks for one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from nomoat.model.template import ChatTemplate
from nomoat.serve.errors import RequestError
from nomoat.serve.fields import Fields

Format = Literal["hermes", "mistral", "llama", "json"]
MAX_TOOLS = 128

_SIGNS: tuple[tuple[str, Format], ...] = (
    ("[TOOL_CALLS]", "mistral"),
    ("<tool_call>", "hermes"),
    ("<|python_tag|>", "llama"),
    ('"parameters": ', "llama"),
)
_EXPLAINED = """You can call these functions:
{tools}

To call one, answer with one JSON object and nothing else:
{{"name": "the function's name", "arguments": {{...}}}}
Otherwise answer in plain text."""


class Function(Fields):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Fields):
    type: Literal["function"]
    function: Function


class NamedFunction(Fields):
    name: str


class NamedChoice(Fields):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedChoice


def format_of(template: ChatTemplate) -> Format:
    """How a model with this template writes its calls."""
    source = template.tool_source or template.source
    if not explains_tools(template):
        return "json"
    return next((name for sign, name in _SIGNS if sign in source), "json")


def explains_tools(template: ChatTemplate) -> bool:
    """Whether the template itself tells the model of its tools."""
    return template.kind == "base" and "tools" in (template.tool_source or template.source)


def chosen_tools(tools: Sequence[Tool], choice: ToolChoice) -> list[Tool]:
    """The tools that may be called. Raises ``RequestError`` where the choice names none of them."""
    if choice == "none":
        return []
    if isinstance(choice, NamedChoice):
        named = [tool for tool in tools if tool.function.name == choice.function.name]
        if not named:
            raise RequestError(
                f"tool_choice names {choice.function.name!r}, which is not in tools", param="tool_choice"
            )
        return named
    if choice == "required" and not tools:
        raise RequestError("tool_choice is 'required' and there are no tools", param="tool_choice")
    return list(tools)


def must_call(choice: ToolChoice) -> bool:
    """Whether the answer has to be a call."""
    return choice == "required" or isinstance(choice, NamedChoice)


def call_schema(tools: Sequence[Tool], form: Format) -> dict[str, Any]:
    """The JSON schema of one call to one of the tools."""
    key = "parameters" if form == "llama" else "arguments"
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    key: tool.function.parameters or {"type": "object"},
                },
                "required": ["name", key],
                "additionalProperties": False,
            }
            for tool in tools
        ]
    }


def with_tools(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], template: ChatTemplate
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """The conversation and the tools as this template takes them."""
    plain = [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools]
    if explains_tools(template):
        return [_with_objects(message) for message in messages], plain or None
    told = [_as_text(message, messages) for message in messages]
    if not plain:
        return told, None
    explained = _EXPLAINED.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in plain))
    if told and told[0]["role"] == "system":
        first = {**told[0], "content": f"{told[0].get('content') or ''}\n\n{explained}"}
        return [first, *told[1:]], None
    return [{"role": "system", "content": explained}, *told], None


def _with_objects(message: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as objects, as templates expect them; OpenAI sends them as JSON text."""
    if not message.get("tool_calls"):
        return dict(message)
    calls = [
        {**call, "function": {**call["function"], "arguments": _loaded(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "content": message.get("content") or "", "tool_calls": calls}


def _as_text(message: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Calls and their results as plain turns, for a template that knows neither."""
    if message["role"] == "tool":
        name = _name_of(str(message.get("tool_call_id")), messages)
        return {"role": "user", "content": f"Result of {name}:\n{message.get('content') or ''}"}
    if not message.get("tool_calls"):
        return dict(message)
    calls = [
        json.dumps({"name": call["function"]["name"], "arguments": _loaded(call["function"]["arguments"])})
        for call in message["tool_calls"]
    ]
    return {"role": message["role"], "content": "\n".join([*filter(None, [message.get("content")]), *calls])}


def _name_of(call_id: str, messages: Sequence[Mapping[str, Any]]) -> str:
    for message in messages:
        for call in message.get("tool_calls") or ():
            if call["id"] == call_id:
                return str(call["function"]["name"])
    return "the function"


def _loaded(arguments: str | dict[str, Any]) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments  # the model's own broken JSON, shown to it as it was
