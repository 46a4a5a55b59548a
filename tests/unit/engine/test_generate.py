"""Generation on a real tiny model: the cache, the batch and the schedule change nothing about a request's text."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.engine import generate
from nomoat.engine.generate import Engine, Request, text_ids
from nomoat.engine.sampling import Sampling
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from tiny import tiny_base

PROMPTS = ["a", "hello there", "The quick brown fox", "0123456789" * 7, "é🙂", "x" * 33, "Why?", "zz top"]

# A head of its own: with the tied one random weights say one letter over and over.
SHAPE = {"max_position_embeddings": 2048, "tie_word_embeddings": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"), **SHAPE)


def busy_adapter(base: Base, seed: int) -> Adapter:
    """An adapter that changes the text: fresh ones do nothing."""
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=16), seed=seed, name=f"busy{seed}")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=generator)
    return adapter


def ask(base: Base, text: str, stack: Stack = EMPTY, **options: object) -> Request:
    return Request(text_ids(base, text), Sampling(**{"max_tokens": 12, **options}), stack)  # type: ignore[arg-type]


@torch.inference_mode()
def greedy_without_cache(base: Base, tokens: list[int], n: int, stack: Stack = EMPTY) -> tuple[list[int], list[float]]:
    """The slow truth: the whole text through the decoder for every new token."""
    out, logprobs = list(tokens), []
    for _ in range(n):
        hidden = base.decoder(torch.tensor(out), Layout([len(out)]), stack)
        logits = base.decoder.logits(hidden[-1:], stack)[0]
        out.append(int(logits.argmax()))
        logprobs.append(float(logits.log_softmax(0).max()))
        if out[-1] in base.tokenizer.eos_ids:
            break
    return out[len(tokens) :], logprobs


def test_cached_decoding_equals_a_full_forward_for_every_token(base: Base) -> None:
    requests = [ask(base, text) for text in PROMPTS]
    for request, completion in zip(requests, Engine(base).complete(requests)):
        tokens, logprobs = greedy_without_cache(base, request.tokens, 12)
        assert completion.tokens == tokens
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-5)


def test_a_prompt_longer_than_a_step_is_read_in_pieces_to_the_same_end(base: Base) -> None:
    request = ask(base, "long " * 260, max_tokens=8)
    completion = Engine(base).complete([request])[0]
    tokens, logprobs = greedy_without_cache(base, request.tokens, 8)
    assert completion.tokens == tokens
    assert completion.logprobs == pytest.approx(logprobs, abs=1e-5)


@pytest.mark.parametrize("max_batch", [3, 16])
def test_a_request_gets_the_same_text_in_a_crowd_as_alone(base: Base, max_batch: int) -> None:
    requests = [
        ask(base, text, temperature=1.0, top_p=0.95, seed=i, max_tokens=4 + 2 * i) for i, text in enumerate(PROMPTS)
    ]
    together = Engine(base, max_batch=max_batch).complete(requests)
    for request, completion in zip(requests, together):
        alone = Engine(base, max_batch=1).complete([request])[0]
        assert (completion.text, completion.tokens) == (alone.text, alone.tokens)
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_requests_with_different_stacks_get_what_they_get_alone(base: Base) -> None:
    one, two = busy_adapter(base, 1), busy_adapter(base, 2)
    stacks: list[Stack] = [(), ((one, 1.0),), ((one, 0.5), (two, 1.0)), (), ((one, 1.0),), ((two, -1.0),)]
    requests = [ask(base, "same prompt", stack) for stack in stacks]
    together = Engine(base).complete(requests)
    for request, completion in zip(requests, together):
        assert completion.tokens == greedy_without_cache(base, request.tokens, 12, request.stack)[0]
    assert len({tuple(completion.tokens) for completion in together}) == 4


def test_the_seed_decides_the_text_and_no_seed_leaves_it_to_chance(base: Base) -> None:
    requests = [ask(base, "dice", temperature=2.0, seed=seed) for seed in (1, 1, 2, None, None)]
    texts = [tuple(completion.tokens) for completion in Engine(base).complete(requests)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_a_stop_string_across_tokens_ends_the_text_before_it(base: Base) -> None:
    whole = Engine(base).complete([ask(base, "hello there")])[0]
    stop = whole.text[4:7]
    assert len(stop) == 3
    completion = Engine(base).complete([ask(base, "hello there", stop=(stop,))])[0]
    assert completion.text == whole.text.partition(stop)[0]
    assert completion.finish_reason == "stop"
    assert len(completion.tokens) < len(whole.tokens)


def test_the_end_of_turn_token_ends_the_answer_and_leaves_no_text(tmp_path: Path, base: Base) -> None:
    usual = Engine(base).complete([ask(base, "hello there")])[0].tokens
    place = next(i for i, token in enumerate(usual) if i > 3 and token not in usual[:i])
    other = tiny_base(tmp_path, eos_token_id=[2, usual[place]], **SHAPE)
    completion = Engine(other).complete([ask(other, "hello there")])[0]
    assert completion.finish_reason == "stop"
    assert completion.tokens == usual[: place + 1]
    assert completion.text == other.tokenizer.decode(completion.tokens[:-1]) != ""


def test_streamed_pieces_join_to_the_completion_and_carry_one_token_each(base: Base) -> None:
    requests = [ask(base, text, temperature=1.5, seed=5) for text in PROMPTS[:3]]
    pieces = list(Engine(base).stream(requests))
    for index, completion in enumerate(Engine(base).complete(requests)):
        own = [piece for piece in pieces if piece.index == index]
        assert "".join(piece.text for piece in own) == completion.text
        assert [piece.token for piece in own] == completion.tokens
        assert [piece.finish_reason is not None for piece in own] == [False] * (len(own) - 1) + [True]


def test_max_tokens_ends_an_answer_with_the_reason_length(base: Base) -> None:
    completion = Engine(base).complete([ask(base, "a", max_tokens=3)])[0]
    assert (len(completion.tokens), completion.finish_reason) == (3, "length")


def test_the_end_of_the_context_ends_an_answer_with_the_reason_length(base: Base) -> None:
    completion = Engine(base, max_context=10).complete([ask(base, "1234567", max_tokens=100)])[0]
    assert (completion.prompt_tokens, len(completion.tokens), completion.finish_reason) == (7, 3, "length")


def test_a_prompt_longer_than_the_context_is_refused_before_anything_runs(base: Base) -> None:
    engine = Engine(base, max_context=10)
    with pytest.raises(UsageError, match=r"10 tokens; the context holds 10"):
        next(engine.stream([ask(base, "fits"), ask(base, "0123456789")]))


def test_an_empty_prompt_is_refused(base: Base) -> None:
    with pytest.raises(UsageError, match="empty"):
        Engine(base).complete([Request([], Sampling())])


def test_no_requests_are_answered_with_nothing(base: Base) -> None:
    assert Engine(base).complete([]) == []


@pytest.mark.parametrize(("max_batch", "max_context"), [(0, None), (1, 1), (1, 4096)])
def test_sizes_the_base_cannot_have_are_refused(base: Base, max_batch: int, max_context: int | None) -> None:
    with pytest.raises(UsageError):
        Engine(base, max_batch=max_batch, max_context=max_context)


def test_a_closed_stream_runs_no_further_and_the_engine_can_be_used_again(base: Base) -> None:
    engine = Engine(base)
    with contextlib.closing(engine.stream([ask(base, "a", max_tokens=500)])) as stream:
        first = next(stream)
    assert engine.complete([ask(base, "a", max_tokens=1)])[0].tokens == [first.token]


def test_caches_larger_than_the_budget_run_fewer_requests_at_a_time(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ask(base, text, max_tokens=6) for text in PROMPTS]
    expected = [completion.text for completion in Engine(base).complete(requests)]
    monkeypatch.setattr(generate, "CACHE_BYTES", 1)
    assert [completion.text for completion in Engine(base).complete(requests)] == expected
