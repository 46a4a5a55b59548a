"""The ``ollama`` Python client, which parses every reply into its types."""

from __future__ import annotations

from typing import Any

import ollama
import pytest

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(live: Any) -> ollama.Client:
    return ollama.Client(host=live.url)


def test_it_chats_whole_and_in_a_stream(client: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 8}
    whole = client.chat(model="tiny+odd:0.5", messages=HELLO, options=options)
    pieces = list(client.chat(model="tiny+odd:0.5", messages=HELLO, options=options, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].done and whole.done_reason == "length" and whole.eval_count == 8


def test_it_generates_with_a_system_message_and_raw(client: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 8}
    told = client.generate(model="odd:latest", prompt="hello", system="be odd", options=options)
    raw = client.generate(model="odd", prompt="hello", raw=True, options=options)
    assert told.response and raw.response and told.response != raw.response
    assert told.prompt_eval_count is not None and raw.prompt_eval_count == 5


def test_a_format_is_kept(client: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    reply = client.chat(model="tiny", messages=HELLO, format=schema)
    assert reply.message.content is not None
    assert "".join(reply.message.content.split()) in ('{"ok":true}', '{"ok":false}')


def test_tools_go_in_and_results_come_back(client: ollama.Client) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    talk: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "tool_name": "add", "content": "2"},
    ]
    reply = client.chat(model="tiny", messages=talk, tools=[tool], options={"num_predict": 4})
    assert reply.message.role == "assistant"


def test_it_lists_and_shows(client: ollama.Client, live: Any) -> None:
    assert [model.model for model in client.list().models] == ["tiny", "both", "even", "odd"]
    shown = client.show("both")
    assert shown.modelfile is not None and "tiny+odd:0.5+even" in shown.modelfile
    assert live.http.get("/api/version").json()["version"]


def test_a_missing_model_is_its_error(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat(model="nobody", messages=HELLO)
    assert missing.value.status_code == 404 and "nobody" in missing.value.error
