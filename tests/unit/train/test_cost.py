"""The cost model against times and memory that obey it."""

from __future__ import annotations

import random

import pytest

from nomoat.model.config import Layer, ModelConfig
from nomoat.model.recompute import POLICIES
from nomoat.train.cost import Measure, Weights, Work, fit

SMOL = ModelConfig(
    family="llama",
    d_model=576,
    n_heads=9,
    n_kv_heads=3,
    head_dim=64,
    d_ff=1536,
    vocab_size=49152,
    max_seq_len=2048,
    layers=(Layer(),) * 30,
    norm_eps=1e-5,
    tied=True,
)


def work(tokens: int) -> Work:
    return Work(tokens, tokens // 4, tokens * 100, 1)


def test_the_counts_are_those_of_the_matrices() -> None:
    weights = Weights.of(SMOL)
    assert weights.token == 2 * 30 * (576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536)
    assert weights.learned == 2 * 576 * 49152


def test_exact_times_give_back_overhead_and_speed() -> None:
    weights = Weights.of(SMOL)
    measures = [Measure(work(n), 0.3 + weights.units(work(n)) / 2e11, 0) for n in (200, 700, 2000)]
    model = fit(weights, measures)
    assert model.overhead_s == pytest.approx(0.3) and model.units_per_s == pytest.approx(2e11)
    assert model.spread == pytest.approx(0, abs=1e-9)
    whole = Work(10_000, 2500, 1_000_000, 5)
    assert model.seconds(whole) == pytest.approx(5 * 0.3 + weights.units(whole) / 2e11)


def test_noise_shows_as_spread_and_stays_small_in_the_prediction() -> None:
    weights, noise = Weights.of(SMOL), random.Random(1)
    exact = {n: 0.2 + weights.units(work(n)) / 1e11 for n in (100, 400, 800)}
    measures = [Measure(work(n), s * noise.gauss(1, 0.1), 0) for _ in range(8) for n, s in exact.items()]
    model = fit(weights, measures)
    assert 0.05 < model.spread < 0.2
    assert model.seconds(work(800)) == pytest.approx(exact[800], rel=0.1)


@pytest.mark.parametrize("sizes", [(500, 500), (500, 501, 500)])
def test_pieces_of_one_size_give_a_speed_alone(sizes: tuple[int, ...]) -> None:
    model = fit(Weights.of(SMOL), [Measure(work(n), 2.0 + 0.01 * i, 0) for i, n in enumerate(sizes)])
    assert model.overhead_s >= 0 and model.seconds(work(500)) == pytest.approx(2.0, rel=0.05)


def test_times_that_fall_with_size_never_make_negative_costs() -> None:
    model = fit(Weights.of(SMOL), [Measure(work(100), 3.0, 0), Measure(work(1000), 2.0, 0)])
    assert model.overhead_s >= 0 and model.units_per_s > 0


def test_what_is_made_again_counts_as_work() -> None:
    least, mlp, layer = (Weights.of(SMOL, policy) for policy in POLICIES)
    assert mlp.token == least.token + 30 * 2 * 576 * 1536 and mlp.square == least.square
    assert layer.token == pytest.approx(1.5 * least.token) and layer.square == pytest.approx(4 / 3 * least.square)
    assert least.learned == mlp.learned == layer.learned
