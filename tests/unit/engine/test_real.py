"""The engine on SmolLM2-135M-Instruct as it is shipped."""

from __future__ import annotations

import pytest

import models
from nomoat.engine.chat import Session
from nomoat.engine.generate import Engine, Request, text_ids
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import choose_by_likelihood, perplexity
from nomoat.model.load import Base, load_base
from nomoat.model.template import Encoded, prompt_ids

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(models.path("smollm2"))


def test_sixty_four_greedy_tokens_are_english_without_control_tokens(base: Base) -> None:
    request = Request(text_ids(base, "Once upon a time, in a village by the sea,"), Sampling(max_tokens=64))
    completion = Engine(base).complete([request])[0]
    assert (len(completion.tokens), completion.finish_reason) == (64, "length")
    assert "<|" not in completion.text and "\ufffd" not in completion.text
    words = completion.text.split()
    assert len(words) > 35 and len(set(words)) > 20
    assert {"a", "and", "was"} < set(words)


def test_a_chat_ends_its_turns_and_reads_only_what_is_new(base: Base) -> None:
    session, sampling = Session(base), Sampling(max_tokens=24)
    first = "".join(piece.text for piece in session.ask("What is the capital of France?", sampling))
    assert "Paris" in first and not first.endswith("<|im_end|>")
    messages = [*session.messages, {"role": "user", "content": "Say it again."}]
    ids = prompt_ids(base.tokenizer, base.template, messages)
    expected = Engine(base).complete([Request(ids, sampling)])[0]
    second = list(session.ask("Say it again.", sampling))
    assert [piece.token for piece in second] == expected.tokens
    assert session.last is not None and session.last.reused_tokens >= len(ids) - 16


def test_sense_is_likelier_than_nonsense(base: Base) -> None:
    prompt = base.tokenizer.encode("The capital of France is")
    choices = [base.tokenizer.encode(word) for word in (" green", " Paris", " running")]
    chosen = choose_by_likelihood(base, prompt, choices)
    assert (chosen.plain, chosen.normalised) == (1, 1)
    rows = []
    for text in (
        "The cat sat on the mat and looked out of the window.",
        "Mat the window on and cat looked of out the.",
    ):
        ids = base.tokenizer.encode(text)
        rows.append(Encoded(ids=ids, loss_mask=[True] * len(ids)))
    assert perplexity(base, rows[:1]) < perplexity(base, rows[1:]) / 3
