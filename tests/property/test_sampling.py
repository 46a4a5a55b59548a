"""Laws of drawing a token, on random logits and random options."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.engine.choose import History, candidates, new_generator, pick
from nomoat.engine.sampling import Sampling

seeds = st.integers(0, 2**32)
filters = st.builds(
    Sampling,
    temperature=st.floats(0.05, 3),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
)
NOTHING = History((), ())


def random_logits(seed: int, size: int = 50) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def draw(logits: torch.Tensor, sampling: Sampling, seed: int) -> int:
    return pick(logits, NOTHING, sampling, new_generator(seed))


@settings(max_examples=40)
@given(seeds, seeds)
def test_temperature_zero_is_the_argmax_and_a_vanishing_temperature_comes_to_it(logits: int, seed: int) -> None:
    values = random_logits(logits)
    best = int(values.argmax())
    assert draw(values, Sampling(temperature=0), seed) == best
    assert draw(values, Sampling(temperature=1e-300), seed) == best


@settings(max_examples=40)
@given(seeds)
def test_filters_that_are_off_leave_every_token(logits: int) -> None:
    values, ids = candidates(random_logits(logits), Sampling(temperature=1, top_p=1, top_k=0, min_p=0))
    assert torch.equal(ids, torch.arange(50)) and torch.equal(values, random_logits(logits))


@settings(max_examples=40)
@given(seeds, filters)
def test_filters_always_keep_the_likeliest_token_and_only_real_values(logits: int, sampling: Sampling) -> None:
    values = random_logits(logits)
    kept, ids = candidates(values, sampling)
    assert int(values.argmax()) in ids.tolist()
    assert torch.equal(kept, values[ids])
    assert len(set(ids.tolist())) == len(ids)


@settings(max_examples=40)
@given(seeds, filters)
def test_what_is_kept_is_likelier_than_what_is_dropped(logits: int, sampling: Sampling) -> None:
    values = random_logits(logits)
    ids = candidates(values, sampling)[1]
    dropped = torch.ones(50, dtype=torch.bool)
    dropped[ids] = False
    assert not dropped.any() or values[ids].min() >= values[dropped].max()


@settings(max_examples=40)
@given(seeds, st.floats(0.05, 0.95))
def test_top_p_is_the_smallest_set_that_reaches_p(logits: int, top_p: float) -> None:
    values = random_logits(logits)
    probabilities = values.double().softmax(0)
    ids = candidates(values, Sampling(temperature=1, top_p=top_p))[1]
    kept = float(probabilities[ids].sum())
    assert kept >= top_p - 1e-9
    assert kept - float(probabilities[ids].min()) < top_p + 1e-9


@settings(max_examples=40)
@given(seeds, filters, seeds)
def test_a_draw_is_one_of_the_candidates_and_the_seed_decides_it(logits: int, sampling: Sampling, seed: int) -> None:
    values = random_logits(logits)
    token = draw(values, sampling, seed)
    assert token in candidates(values, sampling)[1].tolist()
    assert token == draw(values, sampling, seed)


@settings(max_examples=40)
@given(seeds, st.integers(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(logits: int, constant: int) -> None:
    values = (random_logits(logits) * 1024).round() / 1024  # so that the sum is exact in float32
    sampling = Sampling(temperature=0.8, top_k=20, top_p=0.9)
    assert draw(values, sampling, 7) == draw(values + constant, sampling, 7)


@settings(max_examples=40)
@given(seeds, st.integers(0, 49))
def test_a_heavy_penalty_on_what_was_said_keeps_it_from_being_said_again(logits: int, said: int) -> None:
    sampling = Sampling(presence_penalty=1000.0)
    token = pick(random_logits(logits), History((), (said,)), sampling, new_generator(0))
    assert token != said
