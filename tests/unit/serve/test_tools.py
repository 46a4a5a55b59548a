"""Tools in prompts: what a template is told, and which calls may come."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from nomoat.model.template import ChatTemplate
from nomoat.serve.errors import RequestError
from nomoat.serve.tools import Tool, ToolChoice, call_schema, chosen_tools, format_of, must_call, with_tools

ADD = Tool.model_validate({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}})
SUB = Tool.model_validate({"type": "function", "function": {"name": "sub"}})
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "1+1?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "x1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "x1", "content": "2"},
]


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("{% if tools %}<tool_call>{% endif %}", "hermes"),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", "mistral"),
        ("{% if tools %}<|python_tag|>{% endif %}", "llama"),
        ("{{ tools }}", "json"),
        ("{{ messages }}", "json"),
    ],
)
def test_the_format_follows_the_template(source: str, form: str) -> None:
    assert format_of(ChatTemplate(source)) == form


def test_a_template_with_tools_gets_them_and_arguments_as_objects() -> None:
    messages, tools = with_tools(CALLED, [ADD], ChatTemplate("{{ tools }}"))
    assert tools == [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}


def test_a_template_without_tools_is_told_in_words() -> None:
    messages, tools = with_tools(CALLED, [ADD], ChatTemplate("{{ messages }}"))
    assert tools is None
    assert messages[0]["role"] == "system" and '"add"' in messages[0]["content"]
    assert messages[2] == {"role": "assistant", "content": '{"name": "add", "arguments": {"a": 1}}'}
    assert messages[3] == {"role": "user", "content": "Result of add:\n2"}


def test_a_system_message_of_the_clients_own_comes_first() -> None:
    messages, _ = with_tools([{"role": "system", "content": "Be brief."}], [ADD], ChatTemplate("{{ messages }}"))
    assert len(messages) == 1 and messages[0]["content"].startswith("Be brief.\n\nYou can call")


def choice(value: Any) -> ToolChoice:
    found: ToolChoice = TypeAdapter(ToolChoice).validate_python(value)
    return found


def test_the_choice_says_what_may_and_what_must_be_called() -> None:
    named = choice({"type": "function", "function": {"name": "sub"}})
    assert chosen_tools([ADD, SUB], "none") == [] and chosen_tools([ADD, SUB], "auto") == [ADD, SUB]
    assert chosen_tools([ADD, SUB], named) == [SUB]
    assert must_call(named) and must_call("required") and not must_call("auto")
    with pytest.raises(RequestError, match="'sub'"):
        chosen_tools([ADD], named)
    with pytest.raises(RequestError, match="no tools"):
        chosen_tools([], "required")


def test_the_schema_of_a_call_names_only_the_tools() -> None:
    schema = call_schema([ADD, SUB], "llama")
    assert [one["properties"]["name"]["const"] for one in schema["anyOf"]] == ["add", "sub"]
    assert schema["anyOf"][0]["required"] == ["name", "parameters"]
