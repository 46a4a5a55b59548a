"""Conversations of every dialect become OpenAI messages; a flaw names the turn and the key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nomoat.core.errors import DataError
from nomoat.data.messages import conversation, tools
from nomoat.data.rows import Place, defect

HERE = Place("f.jsonl", 7, 7)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


@pytest.mark.parametrize(
    "turns",
    [
        CHAT,
        [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}],
        ["hi", "ho"],
        {"from": ["human", "gpt"], "value": ["hi", "ho"]},
        [{"role": "prompter", "content": "hi"}, {"role": "assistant", "content": ["h", "o"]}],
        [
            {"role": "user", "content": [{"type": "text", "text": "hi"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "ho"}], "loss_weight": 1.0},
        ],
        [
            {"role": "user", "content": "hi", "name": None, "tool_calls": None},
            {"role": "assistant", "content": "ho", "name": None, "tool_calls": None},
        ],
    ],
)
def test_every_dialect_of_a_chat_reads_the_same(turns: Any) -> None:
    assert conversation(turns, HERE, "messages") == CHAT


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        },
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "function_call", "value": '[{"name": "add", "arguments": "{\\"a\\": 1}"}]'},
        {"role": "assistant", "content": [{"type": "tool_call", "value": json.dumps(CALL["function"])}]},
    ],
)
def test_every_dialect_of_a_tool_call_reads_the_same(turn: Any) -> None:
    messages = conversation([{"role": "user", "content": "?"}, turn], HERE, "messages")
    assert messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}


def test_call_ids_tool_answers_and_reasoning_are_kept() -> None:
    messages = conversation(
        [
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": "1+1?"},
            {
                "role": "assistant",
                "content": [{"type": "reasoning", "value": "add"}, {"type": "text", "value": "see"}],
                "tool_calls": [{"id": "c1", **CALL}],
            },
            {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"},
            {"role": "assistant", "content": "2", "reasoning_content": "done"},
        ],
        HERE,
        "messages",
    )
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert messages[2]["tool_calls"] == [{"id": "c1", **CALL}]
    assert messages[2]["reasoning_content"] == "add" and messages[2]["content"] == "see"
    assert messages[3] == {"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"}
    assert defect({"messages": messages}) is None


@pytest.mark.parametrize(
    ("turns", "field", "message"),
    [
        ([], "messages", "not empty"),
        ("hi", "messages", "list of messages"),
        ([*CHAT, 3], "messages[2]", "message object"),
        ([{"content": "x"}], "messages[0]", "neither 'role' nor 'from'"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role", "'wizard' is no role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role", "is no role"),
        ([{"role": "user"}], "messages[0]", "neither 'content' nor 'value'"),
        ([{"role": "user", "content": 3}], "messages[0].content", "must be text, not a number"),
        ([{"role": "user", "content": "a\x00"}], "messages[0].content", "NUL"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content", "surrogate"),
        ([{"role": "user", "content": [{"type": "sound"}]}], "messages[0].content[0]", "type 'sound'"),
        ([{"role": "user", "content": "x", "tool_calls": [CALL]}], "messages[0].tool_calls", "assistant"),
        (
            [{"role": "assistant", "content": "", "tool_calls": {"name": "x"}}],
            "messages[0].tool_calls",
            "must be a list",
        ),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}],
            "messages[0].tool_calls[0]",
            "needs a 'name'",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "messages[0].tool_calls[0].arguments",
            "not JSON",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}],
            "messages[0].tool_calls[0].arguments",
            "must be an object",
        ),
        ([{"from": "function_call", "value": "add(1)"}], "messages[0].value", "not JSON"),
        ([{"role": "assistant", "content": "x", "weight": 0}], "messages[0].weight", "not to be learned"),
    ],
)
def test_a_flaw_names_the_turn_and_the_key(turns: Any, field: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        conversation(turns, HERE, "messages")
    assert (caught.value.line, caught.value.field) == (7, field)


@pytest.mark.parametrize(
    "defined",
    [
        [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        [{"name": "f", "parameters": {}}],
        '[{"name": "f", "parameters": {}}]',
        ['{"name": "f", "parameters": {}}'],
    ],
)
def test_tools_read_the_same_bare_wrapped_or_as_text(defined: Any) -> None:
    wrapped = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert tools(defined, HERE, "tools") == wrapped


@pytest.mark.parametrize("defined", ["{", "3", [3], [{"description": "x"}], {"name": "f"}])
def test_malformed_tools_are_refused(defined: Any) -> None:
    with pytest.raises(DataError, match=r"f\.jsonl:7 field 'tools"):
        tools(defined, HERE, "tools")


def test_no_tools_is_no_tools() -> None:
    assert tools("", HERE, "tools") == tools("[]", HERE, "tools") == tools(None, HERE, "tools") == []


USER, ANSWER = {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOOL, SYSTEM = {"role": "tool", "content": "2"}, {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER, ANSWER], None),
        ([SYSTEM, USER, ANSWER, USER, ANSWER], None),
        ([USER, CALLS], None),
        ([USER, CALLS, TOOL, TOOL, CALLS, TOOL, ANSWER], None),
        ([ANSWER], "turns in an impossible order"),
        ([USER, SYSTEM, ANSWER], "turns in an impossible order"),
        ([USER, USER, ANSWER], "turns in an impossible order"),
        ([USER, ANSWER, ANSWER], "turns in an impossible order"),
        ([USER, TOOL, ANSWER], "turns in an impossible order"),
        ([USER, CALLS, ANSWER], "turns in an impossible order"),
        ([USER, ANSWER, USER], "no answer at the end"),
        ([USER, CALLS, TOOL], "no answer at the end"),
        ([SYSTEM], "no answer at the end"),
        ([USER, {"role": "assistant", "content": " "}], "empty answer"),
    ],
)
def test_only_turns_that_can_follow_each_other_teach(messages: list[Any], expected: str | None) -> None:
    assert defect({"messages": messages}) == expected
