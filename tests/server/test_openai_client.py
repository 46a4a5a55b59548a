"""OpenAI's own client: it parses every reply into its types, and so does this file."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

HELLO: Any = [{"role": "user", "content": "hello"}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "add two digits",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


class Opinion(BaseModel):
    mood: Literal["good", "bad"]
    stars: Literal[1, 2, 3]


@pytest.fixture
def client(live: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_it_chats(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="tiny+odd:0.5", messages=HELLO, max_tokens=5, seed=1)
    assert reply.usage is not None and reply.usage.completion_tokens == 5
    assert reply.choices[0].finish_reason == "length"


def test_it_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="odd", messages=HELLO, max_tokens=5, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    whole = client.chat.completions.create(model="odd", messages=HELLO, max_tokens=5, temperature=0)
    assert text == whole.choices[0].message.content


def test_its_asynchronous_half_runs_requests_together(live: Any) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
            models = ["tiny", "odd", "even", "both"] * 2
            replies = await asyncio.gather(
                *(
                    client.chat.completions.create(model=model, messages=HELLO, max_tokens=6, temperature=0)
                    for model in models
                )
            )
        return [reply.choices[0].message.content for reply in replies]

    texts = asyncio.run(ask())
    assert texts[:4] == texts[4:] and len(set(texts)) == 4


def test_it_parses_an_answer_with_a_schema(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(model="tiny", messages=HELLO, response_format=Opinion, seed=3)
    assert reply.choices[0].message.parsed is not None
    assert reply.choices[0].message.parsed.stars in (1, 2, 3)


def test_it_gets_the_call_that_it_requires(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="tiny", messages=HELLO, tools=[ADD], tool_choice="required", seed=1, max_tokens=60
    )
    calls = reply.choices[0].message.tool_calls
    assert reply.choices[0].finish_reason == "tool_calls" and calls is not None
    assert calls[0].type == "function" and calls[0].function.name == "add"


def test_it_gets_calls_in_a_stream_and_hands_results_back(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny", messages=HELLO, tools=[ADD], tool_choice={"type": "function", "function": {"name": "add"}}, seed=2
    ) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    talk = [*HELLO, message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "7"}]
    after = client.chat.completions.create(model="tiny", messages=talk, max_tokens=3)
    assert after.choices[0].message.role == "assistant"


def test_it_completes_embeds_and_lists(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="tiny", prompt="a", max_tokens=3, logprobs=2, echo=True)
    assert reply.choices[0].text.startswith("a")
    assert len(client.embeddings.create(model="tiny", input="a").data[0].embedding) == 32
    assert [model.id for model in client.models.list()] == ["tiny", "both", "even", "odd"]


def test_its_responses_api_answers_whole_and_in_a_stream(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="tiny", input="hello", max_output_tokens=6, temperature=0)
    assert whole.output_text and whole.usage is not None and whole.usage.output_tokens == 6
    with client.responses.stream(model="tiny", input="hello", temperature=0, instructions="be odd") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text
    calls = client.responses.create(
        model="tiny", input="hello", tools=[{"type": "function", **ADD["function"]}], tool_choice="required"
    )
    assert calls.output[0].type == "function_call"


def test_errors_are_its_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)
