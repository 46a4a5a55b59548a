"""Penalties, filters and the draw on logits that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nomoat.core.errors import NumericError
from nomoat.engine.choose import History, candidates, check_logprobs, new_generator, penalise, pick
from nomoat.engine.sampling import Sampling

NOTHING = History((), ())


def test_penalties_and_temperature_move_the_draw_and_not_the_logits() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0])
    sampling = Sampling(temperature=5.0, top_k=1, presence_penalty=10.0)
    assert pick(logits, History((), (0,)), sampling, new_generator(0)) == 1
    assert logits.tolist() == [2.0, 1.0, 0.0]


def test_a_greedy_request_draws_no_number() -> None:
    generator = new_generator(3)
    before = generator.get_state()
    pick(torch.tensor([0.0, 1.0]), NOTHING, Sampling(), generator)
    assert torch.equal(generator.get_state(), before)


def test_the_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens() -> None:
    logits = torch.tensor([2.0, -2.0, 2.0, -2.0])
    after = penalise(logits, History(prompt=(0,), output=(1, 1)), Sampling(repetition_penalty=2.0))
    assert after.tolist() == [1.0, -4.0, 2.0, -2.0]


def test_presence_counts_once_and_frequency_every_time_and_the_prompt_not_at_all() -> None:
    sampling = Sampling(presence_penalty=1.0, frequency_penalty=0.25)
    after = penalise(torch.zeros(3), History(prompt=(2, 2), output=(0, 1, 1)), sampling)
    assert after.tolist() == [-1.25, -1.5, 0.0]


def test_penalties_leave_the_models_logits_untouched() -> None:
    logits = torch.tensor([1.0, 2.0])
    penalise(logits, History((), (1,)), Sampling(presence_penalty=1.0))
    assert logits.tolist() == [1.0, 2.0]


def test_top_p_keeps_the_token_that_crosses_the_line() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert candidates(logits, Sampling(temperature=1, top_p=0.6))[1].tolist() == [0, 1]
    assert candidates(logits, Sampling(temperature=1, top_p=0.4))[1].tolist() == [0]


def test_top_p_counts_what_top_k_left() -> None:
    logits = torch.tensor([0.4, 0.3, 0.3]).log()
    # Of the two that are left the first has 4/7: enough for 0.5, though it has 0.4 of the whole.
    assert candidates(logits, Sampling(temperature=1, top_k=2, top_p=0.5))[1].tolist() == [0]


def test_top_p_is_right_when_the_nucleus_is_wider_than_the_first_look() -> None:
    logits = torch.zeros(5000)
    assert candidates(logits, Sampling(temperature=1, top_p=0.49995))[1].shape == (2500,)


def test_min_p_is_relative_to_the_likeliest_token() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert candidates(logits, Sampling(temperature=1, min_p=0.5))[1].tolist() == [0, 1]


def test_draws_follow_the_distribution_at_the_temperature() -> None:
    logits, generator = torch.tensor([1.0, 0.0]), new_generator(1)
    sampling = Sampling(temperature=2.0)
    n = 4000
    hits = sum(pick(logits, NOTHING, sampling, generator) == 0 for _ in range(n))
    expected = 1 / (1 + math.exp(-0.5))
    assert abs(hits / n - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf])
    generator = new_generator(0)
    assert {pick(logits, NOTHING, Sampling(temperature=9.0), generator) for _ in range(50)} == {1}


@pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_logits_that_are_not_numbers_are_an_error_not_a_token(bad: list[float]) -> None:
    with pytest.raises(NumericError):
        check_logprobs(torch.tensor([bad]).log_softmax(-1)[0])
    check_logprobs(torch.tensor([-math.inf, 0.0]).log_softmax(-1))


def test_a_row_has_the_same_log_probabilities_in_a_crowd_as_alone() -> None:
    logits = torch.randn(16, 49_152, generator=torch.Generator().manual_seed(0)) * 5
    assert all(torch.equal(logits.log_softmax(-1)[i], logits[i : i + 1].log_softmax(-1)[0]) for i in (0, 7, 15))
