"""Guesses change how many steps an answer takes and nothing else."""

from __future__ import annotations

import pytest
import torch

from nomoat.engine import batch as batch_module
from nomoat.engine.batch import Batch, BatchOptions
from nomoat.engine.generate import text_ids
from nomoat.engine.lookup import MAX_ROWS, MOST, Lookup, Pace, worth_guessing
from nomoat.engine.request import Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.model.adapters import AdapterConfig
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"))  # a tied random head repeats itself: much to look up


def answers(
    base: Base, requests: list[Request], monkeypatch: pytest.MonkeyPatch, guesses: int
) -> tuple[list[list[Piece]], int]:
    """Pieces of each request, and the number of steps, when ``guesses`` are tried whatever they are worth."""
    monkeypatch.setattr(batch_module, "worth_guessing", lambda rate, pace, rows: guesses)
    batch, steps = Batch(base, BatchOptions(context=300, speculate=guesses > 0)), 0
    for index, request in enumerate(requests):
        batch.add(index, request)
    got: list[list[Piece]] = [[] for _ in requests]
    while not batch.idle:
        steps += 1
        for piece in batch.step():
            got[piece.index].append(piece)
    return got, steps


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_answers_are_the_same_with_and_without_guesses(
    base: Base, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=8), seed=1, name="busy")
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    stacks: list[Stack] = [(), ((adapter, 1.0),), ((adapter, -0.5),)]
    requests = [
        Request(
            text_ids(base, "abcabcabcabdabcabc" * 3),
            Sampling(max_tokens=40 + i, temperature=temperature, seed=i, frequency_penalty=0.1 * (i % 2), top_p=0.95),
            stacks[i % 3],
            top_logprobs=2,
        )
        for i in range(6)
    ]
    plain, slow = answers(base, requests, monkeypatch, 0)
    for guesses in (1, 4):
        guessed, fast = answers(base, requests, monkeypatch, guesses)
        for one, other in zip(plain, guessed):
            assert [piece.token for piece in one] == [piece.token for piece in other]
            assert "".join(piece.text for piece in one) == "".join(piece.text for piece in other)
            assert [piece.logprob for piece in one] == pytest.approx([piece.logprob for piece in other], abs=1e-4)
            assert one[-1].finish_reason == other[-1].finish_reason
        assert fast <= slow
        if temperature == 0:
            assert fast < slow * 0.8


def test_sampled_tokens_follow_the_models_distribution_with_guesses(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = text_ids(base, "abcabcab")
    (first,), _ = answers(base, [Request(prompt, Sampling(max_tokens=1), top_logprobs=259)], monkeypatch, 0)
    requests = [Request(prompt, Sampling(max_tokens=2, temperature=1.0, seed=seed)) for seed in range(500)]
    got, _ = answers(base, requests, monkeypatch, 3)
    token, logprob = first[0].top_logprobs[0]
    share = torch.tensor(logprob).exp().item()
    hits = sum(pieces[0].token == token for pieces in got) / len(got)
    assert abs(hits - share) < 4 * (share * (1 - share) / len(got)) ** 0.5
    alone, _ = answers(base, requests[:50], monkeypatch, 0)
    assert [[piece.token for piece in one] for one in alone] == [[piece.token for piece in one] for one in got[:50]]


def test_a_stop_or_the_limit_inside_the_guesses_ends_the_answer_there(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = text_ids(base, "abcabcabcabc")
    (whole,), _ = answers(base, [Request(prompt, Sampling(max_tokens=30))], monkeypatch, 0)
    text = "".join(piece.text for piece in whole)
    for request in (
        Request(prompt, Sampling(max_tokens=30, stop=(text[9:12],))),
        Request(prompt, Sampling(max_tokens=11)),
    ):
        (plain,), _ = answers(base, [request], monkeypatch, 0)
        (guessed,), _ = answers(base, [request], monkeypatch, MOST)
        assert [piece.token for piece in guessed] == [piece.token for piece in plain]
        assert guessed[-1].finish_reason == plain[-1].finish_reason


def test_a_guess_is_what_followed_the_last_time() -> None:
    lookup, known = Lookup(), [1, 2, 3, 4, 5, 1, 2, 3, 9, 8, 1, 2, 3]
    assert lookup.guess(known, 4) == [9, 8, 1, 2]
    known += [9, 8]
    assert lookup.guess(known, 2) == [1, 2]
    assert lookup.guess([*known, 7], 2) == []
    assert Lookup().guess([1, 2], 3) == []


def test_nothing_is_guessed_where_it_does_not_pay() -> None:
    cheap, dear = Pace(), Pace()
    for rows in (1, 4, 9) * 5:
        cheap.time(rows, 1.0 + 0.02 * rows)
        dear.time(rows, 0.1 + 1.0 * rows)
    assert cheap.ratio(1, 4) == pytest.approx(1.1 / 1.02, rel=1e-3)
    assert worth_guessing(0.9, cheap, 1) == MOST
    assert worth_guessing(0.5, cheap, 1) > 0
    assert worth_guessing(0.02, cheap, 1) == 0
    assert worth_guessing(0.9, dear, 1) == 0
    assert worth_guessing(0.9, cheap, MAX_ROWS) == 0


def test_guesses_that_fail_stop_and_are_tried_again_later() -> None:
    lookup, pace = Lookup(), Pace()
    for _ in range(20):
        lookup.learn(4, 0)
    assert worth_guessing(lookup.rate, pace, 1) == 0
    for _ in range(100):
        lookup.rest()
    assert worth_guessing(lookup.rate, pace, 1) > 0
