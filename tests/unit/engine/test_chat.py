"""A conversation keeps its cache, and the cache changes nothing about the answers."""

from __future__ import annotations

import contextlib

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.engine.chat import Session
from nomoat.engine.generate import Engine, Request
from nomoat.engine.sampling import Sampling
from nomoat.model.adapters import AdapterConfig
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.model.template import prompt_ids
from tiny import tiny_base

SHORT = Sampling(max_tokens=12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"), max_position_embeddings=4096, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def stack(base: Base) -> Stack:
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=16), seed=1, name="busy")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return ((adapter, 1.0),)


def say(session: Session, text: str, sampling: Sampling = SHORT) -> str:
    return "".join(piece.text for piece in session.ask(text, sampling))


def answer_from_nothing(session: Session, text: str, sampling: Sampling = SHORT) -> str:
    """What an engine without a cache from earlier turns says at this point of the conversation."""
    messages = [*session.messages, {"role": "user", "content": text}]
    ids = prompt_ids(session.base.tokenizer, session.base.template, messages)
    return Engine(session.base).complete([Request(ids, sampling, session.stack)])[0].text


def test_every_turn_says_what_it_would_say_without_a_cache(base: Base) -> None:
    session = Session(base)
    for text in ("hello", "and then?", "é🙂", "go on " * 30):
        expected = answer_from_nothing(session, text)
        assert say(session, text) == expected
        assert session.messages[-1] == {"role": "assistant", "content": expected}


def test_a_second_turn_reads_only_what_is_new(base: Base) -> None:
    session = Session(base)
    say(session, "hello")
    first = session.last
    say(session, "more")
    assert first is not None and session.last is not None
    assert first.reused_tokens == 0
    # Random weights can say bytes that are not text; the ids after those are read again.
    assert session.last.reused_tokens >= first.prompt_tokens


def test_a_turn_that_repeats_the_last_prompt_still_draws_from_its_last_token(base: Base) -> None:
    session = Session(base)
    first = say(session, "hello")
    session.reset()
    assert say(session, "hello") == first
    assert session.last is not None
    assert session.last.reused_tokens == session.last.prompt_tokens - 1


def test_another_stack_drops_the_cache_and_answers_as_if_it_had_always_been_worn(base: Base, stack: Stack) -> None:
    session = Session(base)
    say(session, "hello")
    session.stack = stack
    expected = answer_from_nothing(session, "again")
    assert say(session, "again") == expected
    assert session.last is not None and session.last.reused_tokens == 0
    session.stack = ((stack[0][0], 1.0),)
    say(session, "same stack")
    assert session.last.reused_tokens > 0


def test_an_answer_that_is_stopped_early_stays_in_the_conversation_as_far_as_it_came(base: Base) -> None:
    session = Session(base)
    with contextlib.closing(session.ask("hello", SHORT)) as pieces:
        said = "".join(next(pieces).text for _ in range(5))
    assert session.messages == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": said}]
    expected = answer_from_nothing(session, "next")
    assert say(session, "next") == expected


def test_a_message_that_does_not_fit_leaves_the_conversation_as_it_was(base: Base) -> None:
    session = Session(base, max_context=80)
    say(session, "hi", Sampling(max_tokens=2))
    before = list(session.messages)
    with pytest.raises(UsageError, match="the context holds 80"):
        say(session, "x" * 100)
    assert session.messages == before
    session.reset()
    assert say(session, "hi", Sampling(max_tokens=2)) == before[-1]["content"]


def test_the_cache_grows_with_the_conversation(base: Base) -> None:
    session = Session(base)
    for text in ("a" * 600, "b" * 600, "c" * 600):
        expected = answer_from_nothing(session, text)
        assert say(session, text) == expected
        assert session.last is not None
    assert session.last is not None and session.last.reused_tokens > 1200


def test_the_system_message_is_set_changed_and_taken_away(base: Base) -> None:
    session = Session(base)
    session.system = "Be brief."
    say(session, "hello")
    session.system = "Be long."
    assert [message["role"] for message in session.messages] == ["system", "user", "assistant"]
    assert session.system == "Be long."
    session.reset()
    assert session.messages == [{"role": "system", "content": "Be long."}]
    session.system = ""
    assert session.messages == [] and session.system == ""


def test_speed_is_counted_after_the_first_token(base: Base) -> None:
    session = Session(base)
    say(session, "hello")
    assert session.last is not None
    assert session.last.tokens == 12
    assert 0 < session.last.first_token_s <= session.last.seconds
    assert session.last.tokens_per_second > 0
