"""How a measured peak is carried over to other sizes and other ways."""

from __future__ import annotations

import dataclasses

from nomoat.kernels.cross_entropy import LOGITS_BYTES
from nomoat.model.config import Layer, ModelConfig
from nomoat.model.recompute import POLICIES
from nomoat.train.cost import Measure, Work
from nomoat.train.footprint import Footprint, peak_at

QWEN = ModelConfig(
    family="qwen2",
    d_model=896,
    n_heads=14,
    n_kv_heads=2,
    head_dim=64,
    d_ff=4864,
    vocab_size=151936,
    max_seq_len=32768,
    layers=(Layer(),) * 24,
    norm_eps=1e-6,
    tied=True,
)


def test_ways_that_make_more_again_keep_less() -> None:
    least, mlp, layer = (Footprint.of(QWEN, policy, rank=16) for policy in POLICIES)
    work = Work(1024, 256)
    # Gate and up of all layers but the one at hand: 4,864 floats of each token, twice.
    assert least.size_bytes(work) - mlp.size_bytes(work) == 23 * 2 * 4864 * 4 * 1024
    assert layer.size_bytes(work) < mlp.size_bytes(work)


def test_logits_are_bounded_by_the_chunk_that_holds_them() -> None:
    footprint = Footprint.of(QWEN, "layer", rank=16)
    few, many = footprint.size_bytes(Work(1000, 10)), footprint.size_bytes(Work(1000, 900))
    assert few == footprint.token * 1000 + 4 * 151936 * 10
    assert many == footprint.token * 1000 + LOGITS_BYTES


def test_frozen_layers_keep_nothing() -> None:
    assert (
        Footprint.of(QWEN, "least", rank=16, frozen_layers=12).token < 0.6 * Footprint.of(QWEN, "least", rank=16).token
    )


def test_the_largest_piece_that_was_run_is_where_the_line_starts() -> None:
    footprint = Footprint(1000)
    measures = [
        Measure(Work(100), 1, 1_100_000),
        Measure(Work(1000), 1, 2_000_000),
        Measure(Work(1000), 1, 1_990_000),
        Measure(Work(100), 1, 1_900_000),  # what the large piece left behind does not count
    ]
    assert peak_at(measures, footprint, footprint, Work(1000)) == 2_000_000
    assert peak_at(measures, footprint, footprint, Work(2000)) == 2_000_000 + 1_100_000  # more, where nothing was seen
    assert peak_at(measures, footprint, footprint, Work(500)) == 1_500_000
    leaner = dataclasses.replace(footprint, token=400)
    assert peak_at(measures, footprint, leaner, Work(1000)) == 1_400_000
