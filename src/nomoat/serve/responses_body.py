"""The body of ``/v1/responses``, and the chat request that it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from nomoat.serve.body import check
from nomoat.serve.chat import ChatBody
from nomoat.serve.errors import RequestError
from nomoat.serve.fields import SamplingFields, Text

MAX_ITEMS = 4096
_COPIED = ("model", "lora", "stream", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop")


class ResponsesBody(SamplingFields):
    input: Text | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_ITEMS)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = True
    text: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = False


def chat_body(body: ResponsesBody) -> ChatBody:
    """The same request as a chat completion. Raises ``RequestError`` for what needs a memory, or is not known."""
    for name, value in (("previous_response_id", body.previous_response_id), ("conversation", body.conversation)):
        if value:
            raise RequestError(
                f"{name!r} is not supported: this server keeps nothing", param=name, code="unsupported_parameter",
                hint="send the whole conversation as input",
            )  # fmt: skip
    if body.background:
        raise RequestError("'background' is not supported", param="background", code="unsupported_parameter")
    values: dict[str, Any] = {name: value for name, value in body.model_dump().items() if name in _COPIED}
    values |= {
        "messages": _messages(body),
        "max_completion_tokens": body.max_output_tokens,
        "tools": [_tool(tool) for tool in body.tools] if body.tools else None,
        "tool_choice": _choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _format(body.text),
        "truncate_prompt_tokens": -1 if body.truncation == "auto" else body.truncate_prompt_tokens,
    }
    return check(values, ChatBody)


def _messages(body: ResponsesBody) -> list[dict[str, Any]]:
    first = [{"role": "system", "content": body.instructions}] if body.instructions else []
    if isinstance(body.input, str):
        return [*first, {"role": "user", "content": body.input}]
    return first + [_message(item, place) for place, item in enumerate(body.input)]


def _message(item: Mapping[str, Any], place: int) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        return dict(item)
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
        call = {"id": item.get("call_id", ""), "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    raise RequestError(f"input.{place}: an item of type {str(kind)[:40]!r} is not supported", param="input")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise RequestError(
            f"a tool of type {str(tool.get('type'))[:40]!r} is not supported", param="tools", hint="function tools only"
        )
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _choice(choice: str | dict[str, Any] | None) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _format(text: Mapping[str, Any] | None) -> dict[str, Any] | None:
    form = (text or {}).get("format")
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        return form if isinstance(form, dict) else None
    return {"type": "json_schema", "json_schema": {"name": str(form.get("name", "")), "schema": form.get("schema")}}
