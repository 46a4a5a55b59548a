"""Pages and prefixes: what is read once serves whoever begins alike under the same adapters, and changes nothing."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from batches import ask, busy_adapter, new_batch, one, run, text
from nomoat.engine.generate import Engine
from nomoat.engine.prefix import PrefixTree
from nomoat.engine.request import NO_TOKEN, Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.engine.wear import cached_under
from nomoat.model.cache import PAGE, KVCache, Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=False)


def same_as_alone(base: Base, pieces: list[Piece], request: Request) -> None:
    alone = Engine(base, max_batch=1).complete([request])[0]
    assert [piece.token for piece in pieces] == alone.tokens
    assert [piece.logprob for piece in pieces] == pytest.approx(alone.logprobs, abs=1e-4)


@pytest.mark.parametrize("n", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 50])
def test_a_hit_changes_nothing_and_leaves_one_token_to_read(base: Base, n: int) -> None:
    batch, request = new_batch(base), ask(text(n, n))
    first, second = one(batch, request), one(batch, request)
    assert first[0].cached_tokens == 0 and second[0].cached_tokens == n - 1
    same_as_alone(base, first, request)
    same_as_alone(base, second, request)


@pytest.mark.parametrize("shared", [5, PAGE, PAGE + 9, 40])
def test_what_begins_alike_is_read_once_to_the_token(base: Base, shared: int) -> None:
    batch, start = new_batch(base), text(1, shared)
    one(batch, ask([*start, *text(2, 30)]))
    other = ask([*start, 3, *text(3, 30)])
    pieces = one(batch, other)
    assert pieces[0].cached_tokens == shared
    same_as_alone(base, pieces, other)


def test_an_answer_is_found_again_as_the_beginning_of_the_next_prompt(base: Base) -> None:
    batch, prompt = new_batch(base), text(4, 20)
    said = [piece.token for piece in one(batch, ask(prompt, n=20))]
    following = ask([*prompt, *said, *text(5, 9)])
    pieces = one(batch, following)
    assert pieces[0].cached_tokens == 39  # the last token that was drawn was never read
    same_as_alone(base, pieces, following)


def test_adapters_never_find_what_another_stack_has_read(base: Base) -> None:
    first, second = busy_adapter(base, 1), busy_adapter(base, 2)
    stacks: list[Stack] = [(), ((first, 1.0),), ((first, 0.5),), ((second, 1.0),), ((first, 1.0), (second, 1.0))]
    batch, prompt = new_batch(base), text(6, 45)
    for again in (False, True):
        for stack in stacks:
            pieces = one(batch, ask(prompt, stack))
            assert pieces[0].cached_tokens == (44 if again else 0)
            same_as_alone(base, pieces, ask(prompt, stack))


def test_adapters_that_cannot_change_keys_share_what_the_base_has_read(base: Base) -> None:
    head = busy_adapter(base, 3, "lm_head")
    last = busy_adapter(base, 4, "layers.1.mlp.down_proj", "layers.1.self_attn.q_proj")
    keys = busy_adapter(base, 5, "layers.1.self_attn.k_proj")
    earlier = busy_adapter(base, 6, "layers.0.mlp.down_proj")
    batch, prompt = new_batch(base), text(7, 40)
    plain = one(batch, ask(prompt))
    for adapter, shares in ((head, True), (last, True), (keys, False), (earlier, False)):
        pieces = one(batch, ask(prompt, ((adapter, 2.0),)))
        assert pieces[0].cached_tokens == (39 if shares else 0)
        same_as_alone(base, pieces, ask(prompt, ((adapter, 2.0),)))
        assert [piece.logprob for piece in pieces] != pytest.approx([piece.logprob for piece in plain], abs=1e-4)
    config = base.decoder.config
    assert cached_under(((head, 1.0), (keys, 1.0)), config) == cached_under(((keys, 1.0), (last, 3.0)), config)
    assert cached_under(((keys, 1.0),), config) != cached_under(((keys, 2.0),), config)


def test_an_adapter_that_learned_on_is_another_after_it_is_forgotten(base: Base) -> None:
    adapter = busy_adapter(base, 8)
    batch, request = new_batch(base), ask(text(8, 40), ((adapter, 1.0),))
    one(batch, request)
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.mul_(-1)
    batch.forget(adapter)
    pieces = one(batch, request)
    assert pieces[0].cached_tokens == 0
    same_as_alone(base, pieces, request)


def test_an_adapter_forgotten_while_it_is_worn_leaves_nothing_behind(base: Base) -> None:
    adapter, batch = busy_adapter(base, 8), new_batch(base)
    kept = [text(8, 40), text(9, 40)]
    for index, tokens in enumerate(kept):
        batch.add(index, ask(tokens, ((adapter, 1.0),), n=4 + index))
    batch.step()
    batch.forget(adapter)
    while not batch.idle:
        batch.step()
    assert batch.cache_bytes == 0
    holder = weakref.ref(adapter)
    del adapter
    gc.collect()
    assert holder() is None


def test_requests_that_begin_alike_at_the_same_moment_are_read_once(base: Base) -> None:
    batch, start = new_batch(base), text(9, 100)
    requests = [ask([*start, *text(10 + i, 7)]) for i in range(6)]
    for index, request in enumerate(requests):
        batch.add(index, request)
    read = 0
    forward = base.decoder.forward

    def counting(tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        nonlocal read
        read += tokens.shape[0]
        return forward(tokens, *rest)  # type: ignore[arg-type]

    base.decoder.forward = counting  # type: ignore[method-assign]
    try:
        got = run(batch)
    finally:
        base.decoder.forward = forward  # type: ignore[method-assign]
    assert read < 107 + 5 * (7 + PAGE) + 6 * 6
    for index, request in enumerate(requests):
        same_as_alone(base, got[index], request)


def test_a_small_cache_gives_up_the_oldest_and_makes_the_youngest_wait_and_changes_nothing(base: Base) -> None:
    adapter = busy_adapter(base, 11)
    requests = [ask(text(i % 3, 20 + 5 * i), ((adapter, 1.0),) if i % 2 else (), n=40) for i in range(12)]
    batch = new_batch(base, context=130, max_batch=6, cache_bytes=20 * PAGE * 2 * 2 * 2 * 8 * 4)
    for _ in range(2):
        for index, request in enumerate(requests):
            batch.add(index, request)
        got = run(batch)
        for index, request in enumerate(requests):
            same_as_alone(base, got[index], request)
    assert batch.cache_bytes <= 20 * PAGE * 2 * 2 * 2 * 8 * 4


@pytest.mark.parametrize("kernels", ["", "reference"])
def test_what_lies_in_a_page_from_before_reaches_nobody(
    base: Base, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", kernels)
    batch, requests = new_batch(base, reuse=False), [ask(text(i, 15 + 9 * i)) for i in range(3)]
    one(batch, requests[2])
    for stored in (batch._cache.keys, batch._cache.values):
        stored.fill_(float("nan"))
    for index, request in enumerate(requests):
        batch.add(index, request)
    got = run(batch)
    for index, request in enumerate(requests):
        same_as_alone(base, got[index], request)


def test_nothing_is_kept_where_nothing_is_to_be_reused(base: Base) -> None:
    batch, request = new_batch(base, reuse=False), ask(text(1, 40))
    one(batch, request)
    assert batch.cache_bytes == 0
    assert one(batch, request)[0].cached_tokens == 0


def test_a_cancelled_request_leaves_its_pages_to_others(base: Base) -> None:
    batch, prompt = new_batch(base), text(12, 60)
    batch.add(0, ask(prompt, n=50))
    for _ in range(5):
        batch.step()
    batch.cancel(0)
    batch.cancel(0)
    assert batch.idle and batch.n_running == 0
    pieces = one(batch, ask(prompt))
    assert pieces[0].cached_tokens == 59
    same_as_alone(base, pieces, ask(prompt))


def test_eight_bit_keys_move_log_probabilities_by_hundredths(base: Base) -> None:
    prompt = text(13, 120)
    for stack in ((), ((busy_adapter(base, 14), 1.0),)):
        found = []
        for int8 in (False, True):
            batch = new_batch(base, int8_cache=int8)
            one(batch, ask(prompt[:90], stack, n=1))  # the second request reads what the first has stored
            (piece,) = one(batch, Request(prompt, Sampling(max_tokens=1), stack, top_logprobs=100))
            assert piece.cached_tokens == 90
            found.append(dict(piece.top_logprobs))
        exact, rough = found
        both = [abs(exact[token] - rough[token]) for token in exact if token in rough]
        assert len(both) > 95 and 0 < sum(both) / len(both) < 0.03


def test_eight_bit_pages_take_less_than_a_third(base: Base) -> None:
    wide, narrow = KVCache(base.decoder.config, 4), KVCache(base.decoder.config, 4, int8=True)
    assert narrow.page_bytes * 8 == wide.page_bytes * 3  # 8 channels and a scale; with 64 channels it is 17 of 64


def test_eight_bit_keys_come_back_within_half_a_step(base: Base) -> None:
    config = base.decoder.config
    cache = KVCache(config, 3, int8=True)
    cache.place(5, [2, 1])
    layout = Layout([20], slots=[5])
    k, v = torch.randn(20, 2, 8), torch.randn(20, 2, 8)
    cache.write(1, layout, k, v)
    for got, expected in zip(cache.read(1, layout), (k, v)):
        step = expected.abs().amax(-1, keepdim=True) / 127
        assert bool(((got - expected).abs() <= step * 0.5001).all())


def test_a_grown_cache_keeps_what_it_holds(base: Base) -> None:
    cache = KVCache(base.decoder.config, 2)
    cache.place(0, [1])
    k, v = torch.randn(4, 2, 8), torch.randn(4, 2, 8)
    cache.write(0, Layout([4]), k, v)
    cache.resize(9)
    cache.place(1, [8])
    keys, values = cache.read(0, Layout([0, 0], starts=[4, 16]))
    assert torch.equal(keys[:4], k) and torch.equal(values[:4], v)
    assert not keys[4:].any()


def test_the_tree_gives_up_the_least_recently_used_leaf_and_never_what_is_read() -> None:
    tree = PrefixTree()
    pages = [tuple(range(i, i + PAGE)) for i in (0, 100, 200, 300)]
    root = tree.add("w", None, pages[0], 1)
    leaf = tree.add("w", root, pages[1], 2)
    tree.add("w", root, pages[2], 3)
    tree.add("other", None, pages[0], 4)
    tree.touch(leaf)
    assert tree.evict() == 3
    leaf.users = 1
    assert tree.evict() == 4
    assert tree.evict() is None
    leaf.users = 0
    assert (tree.evict(), tree.evict(), tree.evict()) == (2, 1, None)
    assert tree.match("w", pages[0]) == ([], None, 0)


def test_a_piece_without_a_token_says_so(base: Base) -> None:
    pieces = one(new_batch(base), ask(text(1, 5), n=0))
    assert [(piece.token, piece.text, piece.finish_reason) for piece in pieces] == [(NO_TOKEN, "", "length")]
