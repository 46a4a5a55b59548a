"""Prompts read rounded: other numbers, but a request still gets what it gets alone, and the cache changes nothing."""

from __future__ import annotations

import pytest

from batches import ask, busy_adapter, in_blocks, new_batch, one, run, text
from nomoat.engine.batch import Batch, BatchOptions
from nomoat.engine.request import Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.kernels import quick
from nomoat.model.cache import PAGE
from nomoat.model.delta import EMPTY
from nomoat.model.load import Base
from tiny import tiny_base

pytestmark = pytest.mark.skipif(not quick.available(), reason="this processor is no quicker with rounded numbers")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return in_blocks(tiny_base(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=False))


@pytest.fixture(autouse=True)
def small_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "LEAST_WEIGHTS", 1)


def rounding(base: Base, **options: object) -> Batch:
    return new_batch(base, round_prompts=True, **options)


def same(one: list[Piece], other: list[Piece]) -> None:
    assert [piece.token for piece in one] == [piece.token for piece in other]
    assert [piece.logprob for piece in one] == pytest.approx([piece.logprob for piece in other], abs=1e-4)


def test_the_numbers_are_near_float32s_and_not_the_same(base: Base) -> None:
    request = ask(text(1, 90), n=1)
    rounded, exact = (one(new_batch(base, round_prompts=rough), request)[0].logprob for rough in (True, False))
    assert 1e-5 < abs(rounded - exact) < 0.1


@pytest.mark.parametrize("n", [1, PAGE, PAGE + 1, 50])
def test_a_hit_changes_nothing(base: Base, n: int) -> None:
    batch, request = rounding(base), ask(text(n, n))
    first, second = one(batch, request), one(batch, request)
    assert second[0].cached_tokens == n - 1
    same(first, second)
    same(first, one(rounding(base), request))


def test_what_was_answered_is_read_again_as_part_of_the_next_prompt(base: Base) -> None:
    batch, prompt = rounding(base), text(2, 40)
    answered = [piece.token for piece in one(batch, ask(prompt, n=30))]
    later = ask([*prompt, *answered, *text(3, 20)])
    pieces = one(batch, later)
    assert pieces[0].cached_tokens == 40
    same(pieces, one(rounding(base), later))


def test_each_of_a_mixed_batch_gets_what_it_gets_alone_whatever_the_others_read(base: Base) -> None:
    worn = [EMPTY, *(((busy_adapter(base, seed), 0.5 * seed),) for seed in (1, 2, 3))]
    requests = [ask(text(n, 5 + 37 * (n % 4)), worn[n % 4], n=4 + n) for n in range(8)]
    batch = rounding(base, max_batch=8)
    found: dict[int, list[Piece]] = {}
    for number, request in enumerate(requests):  # one more in every step: prompts are read while others answer
        batch.add(number, request)
        for piece in batch.step():
            found.setdefault(piece.index, []).append(piece)
    for number, pieces in run(batch).items():
        found[number] = found.get(number, []) + pieces
    for number, request in enumerate(requests):
        same(found[number], one(rounding(base), request))


def test_who_gave_way_goes_on_with_the_same_words(base: Base) -> None:
    requests = [ask(text(20 + n, 40), n=60) for n in range(3)]
    page_bytes = Batch(base, BatchOptions(context=PAGE))._cache.page_bytes
    tight = rounding(base, context=112, cache_bytes=14 * page_bytes)
    for number, request in enumerate(requests):
        tight.add(number, request)
    found = run(tight)
    for number, request in enumerate(requests):
        same(found[number], one(rounding(base), request))


def test_a_prompt_whose_own_predictions_are_asked_for_is_read_exactly_and_apart(base: Base) -> None:
    prompt = text(4, 60)
    batch, scored = rounding(base), Request(prompt, Sampling(max_tokens=1), score_prompt=True)
    one(batch, ask(prompt))
    told = one(batch, scored)[0]
    exact = one(new_batch(base), scored)[0]
    assert told.prompt_scores is not None and exact.prompt_scores is not None
    assert told.prompt_scores.logprobs == pytest.approx(exact.prompt_scores.logprobs, abs=1e-5)
    fresh = rounding(base)
    one(fresh, scored)
    assert one(fresh, ask(prompt))[0].cached_tokens == 0


def test_guesses_change_nothing(base: Base) -> None:
    prompt = text(5, 20) * 3
    for n in (1, 20):
        same(*(one(rounding(base, speculate=on), ask(prompt[: 3 * n], n=40)) for on in (True, False)))
