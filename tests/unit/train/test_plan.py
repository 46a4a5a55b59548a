"""Plans over a made-up machine whose speed and memory are known."""

from __future__ import annotations

import dataclasses

import pytest

from nomoat.core.errors import ResourceError
from nomoat.train.cost import Measure, Weights, Work
from nomoat.train.footprint import Footprint
from nomoat.train.plan import Plan, make_plan
from nomoat.train.prediction import Outline, Way, Wish
from nomoat.train.probe import Probe

WEIGHTS = Weights(1.0, 0.0, 0.0)  # a unit is a token
MB = 1_000_000

WAYS = [Way("least", WEIGHTS, Footprint(MB))]

# 1,000 tokens a second and 0.1 s a piece; 100 MB, and 1 MB for each token of the largest piece.
PROBE = Probe(
    measures=tuple(
        Measure(Work(n, n, 0, 1), 0.1 + n / 1000, 100 * MB + n * MB) for n in (200, 500, 1000, 200, 500, 1000)
    ),
    forward_share=0.5,
    update_s=0.0,
    busy=0.0,
    seconds=5.0,
)
WISH = Wish(
    steps=300,
    steps_per_epoch=100,
    rows=800,
    batch_size=8,
    pack_tokens=1000,
    eval_every=100,
    parameter_bytes=1 * MB,
    available_bytes=10_000 * MB,
    disk_free_bytes=10_000 * MB,
)


def outline(pack_tokens: int) -> Outline:
    """Steps of 2,000 tokens; rows of 125."""
    pieces = -(-2000 // pack_tokens)
    return Outline(
        pack_tokens, Work(20_000, 20_000, 0, 10 * pieces), 10, min(pack_tokens, 2000), 125, Work(1000, 1000, 0, 1)
    )


def plan(**changes: object) -> Plan:
    return make_plan(dataclasses.replace(WISH, **changes), PROBE, WAYS, outline)


def test_time_is_steps_and_measurements_and_what_is_written() -> None:
    made = plan()
    training, measuring = 300 * 2.2, 4 * 0.5 * 1.1
    assert made.seconds == pytest.approx(training + measuring + 2, rel=0.01)
    assert made.tokens == 600_000 and made.steps == 300 and made.epochs == 3 and made.rows == 800
    assert made.low_s < made.seconds < made.high_s and made.gave_up == ()


def test_memory_is_what_was_seen_and_what_a_run_holds_besides() -> None:
    assert plan().peak_bytes == pytest.approx(1.05 * (1100 * MB + 3 * MB), rel=1e-6)


def test_a_scattered_probe_and_a_busy_machine_widen_the_interval() -> None:
    calm = plan()
    noisy = [dataclasses.replace(m, seconds=m.seconds * (1.3 if i % 2 else 0.7)) for i, m in enumerate(PROBE.measures)]
    for probe in (dataclasses.replace(PROBE, measures=tuple(noisy)), dataclasses.replace(PROBE, busy=0.5)):
        made = make_plan(WISH, probe, WAYS, outline)
        assert made.high_s / made.low_s > 1.1 * calm.high_s / calm.low_s


def test_fewer_epochs_come_first_when_time_is_short() -> None:
    made = plan(budget_s=500.0, budget_words="to take 8 minutes")
    assert 100 < made.steps < 300 and made.rows == 800
    assert made.high_s <= 500 < plan(budget_s=None).high_s
    assert len(made.gave_up) == 1 and "of 3 epochs, to take 8 minutes" in made.gave_up[0]


def test_then_rows_are_given_up() -> None:
    made = plan(budget_s=100.0, budget_words="to finish by 23:30")
    assert made.steps < 100 and made.rows == 8 * made.steps and made.high_s <= 100
    assert made.gave_up == (f"one pass over {made.rows} of 800 rows instead of 3 epochs, to finish by 23:30",)


def test_nothing_is_given_up_when_there_is_time() -> None:
    made = plan(budget_s=5000.0, budget_words="to take 83 minutes")
    assert made.steps == 300 and made.gave_up == ()


def test_a_time_in_which_nothing_can_be_done_is_refused_with_one_in_which_it_can() -> None:
    with pytest.raises(ResourceError, match=r"to take 0\.1 minutes") as caught:
        plan(budget_s=6.0, budget_words="to take 0.1 minutes")
    assert "6 s are left" in caught.value.message
    minutes = int(caught.value.hint.split()[2])
    assert plan(budget_s=60.0 * minutes).steps >= 4


def test_too_little_memory_is_refused_with_a_setting_that_fits() -> None:
    with pytest.raises(ResourceError, match=r"needs about 1\.2 GB of memory; 600 MB are free") as caught:
        plan(available_bytes=600 * MB)
    size = int(caught.value.hint.split()[1])
    assert plan(available_bytes=600 * MB, pack_tokens=size).peak_bytes <= 600 * MB


def test_a_bound_on_memory_chooses_smaller_pieces_and_says_so() -> None:
    made = plan(memory_bytes=600 * MB)
    assert made.peak_bytes <= 600 * MB and made.pack_tokens < 1000 and made.seconds > plan().seconds
    assert "instead of 1000 to stay under 600 MB" in made.gave_up[0]


def _with_ways(**changes: object) -> Plan:
    """A second way that keeps a tenth and takes a half more time."""
    ways = [*WAYS, Way("mlp", Weights(1.5, 0.0, 0.0), Footprint(0.1 * MB))]
    return make_plan(dataclasses.replace(WISH, **changes), PROBE, ways, outline)


def test_without_need_nothing_is_computed_twice() -> None:
    assert _with_ways().recompute == "least" and _with_ways() == plan()


def test_short_memory_chooses_what_computes_twice_where_that_is_the_faster_way_to_fit() -> None:
    made = _with_ways(available_bytes=400 * MB)
    assert made.recompute == "mlp" and made.pack_tokens == 1000 and made.peak_bytes <= 400 * MB
    assert made.seconds == pytest.approx(plan().seconds * 1.5, rel=0.1)
    assert made.gave_up[0].startswith("computes parts of the MLPs twice to stay under 400 MB")


def test_slightly_smaller_pieces_are_the_faster_way_where_little_is_missing() -> None:
    made = _with_ways(memory_bytes=1000 * MB)
    assert made.recompute == "least" and made.pack_tokens == 750


def test_a_bound_below_one_row_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"200 MB were allowed") as caught:
        plan(memory_bytes=200 * MB)
    assert "--max-seq-len" in caught.value.hint


def test_too_small_a_disk_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"needs 13\.0 MB of disk; 5\.0 MB are free"):
        plan(disk_free_bytes=5 * MB)
