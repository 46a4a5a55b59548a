"""Calls in answers, in each template's way of writing them, however the text is cut."""

from __future__ import annotations

import pytest

from nomoat.serve.tool_calls import Call, CallReader, read_calls
from nomoat.serve.tools import Format

ADD = Call("add", '{"a": 1}')
ANSWERS: list[tuple[Format, str, str, list[Call]]] = [
    ("hermes", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', "", [ADD]),
    ("hermes", 'Let me see.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', "Let me see.", [ADD]),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>\n<tool_call>{"name": "sub", "arguments": {}}'
        "</tool_call>",
        "",
        [ADD, Call("sub", "{}")],
    ),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1}}', "", [ADD]),
    ("hermes", '{"name": "add", "arguments": {"a": 1}}', "", [ADD]),
    ("llama", '{"name": "add", "parameters": {"a": 1}}', "", [ADD]),
    ("llama", '<|python_tag|>{"name": "add", "parameters": {"a": 1}}', "", [ADD]),
    (
        "llama",
        '{"name": "add", "parameters": {"a": 1}}; {"name": "sub", "parameters": {}}',
        "",
        [ADD, Call("sub", "{}")],
    ),
    ("mistral", '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]', "", [ADD]),
    ("mistral", '[{"name": "add", "arguments": {"a": 1}}]', "", [ADD]),
    ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]sub[ARGS]{}', "", [ADD, Call("sub", "{}")]),
    ("mistral", 'Yes.[TOOL_CALLS]add{"a": 1}', "Yes.", [ADD]),
    ("json", '{"name": "add", "arguments": {"a": 1}}', "", [ADD]),
    ("json", '{"function": {"name": "add", "arguments": "{\\"a\\": 1}"}}', "", [ADD]),
]
TEXTS = [
    "plain words",
    "a < b and <tool",
    '{"name": "nobody", "arguments": {}}',
    '{"name": "add", "arguments": ',
    '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
    "[1, 2, 3]",
    "{}",
    "[" * 5000,
    "",
]


def read(form: Format, text: str, size: int) -> tuple[str, list[Call]]:
    reader = CallReader(form, ["add", "sub"])
    said = "".join(reader.push(text[at : at + size]) for at in range(0, len(text), size))
    rest, calls = reader.finish()
    return said + rest, calls


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(("form", "answer", "text", "calls"), ANSWERS)
def test_calls_are_read_however_the_answer_is_cut(
    form: Format, answer: str, text: str, calls: list[Call], size: int
) -> None:
    assert read(form, answer, size) == (text, calls)


@pytest.mark.parametrize("form", ["hermes", "mistral", "llama", "json"])
@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_call_stays_text_to_the_letter(form: Format, text: str) -> None:
    for size in (1, 4, 1000):
        assert read(form, text, size) == (text, [])


def test_text_goes_on_at_once_until_a_call_may_begin() -> None:
    reader = CallReader("hermes", ["add"])
    assert reader.push("Well, ") == "Well, "
    assert reader.push("I would <") == "I would "
    assert reader.push("b>say") == "<b>say"


def test_a_broken_call_among_whole_ones_makes_all_of_it_text() -> None:
    assert read_calls('{"name": "add", "arguments": {}} {"name": ', "json") == []
