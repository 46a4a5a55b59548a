"""The probe on a task whose cost is known to the microsecond: it sleeps."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from nomoat.core.records import Progress, returned
from nomoat.train.cost import Weights, Work, fit
from nomoat.train.footprint import Footprint
from nomoat.train.peak import resident_bytes
from nomoat.train.probe import Sample, probe
from outcome import heard

NOTHING = Footprint(0.0)
PARAMETERS = {"w": torch.nn.Parameter(torch.ones(3))}
SAMPLES = [Sample(n, Work(n, n, 0, 1)) for n in (10, 20, 50)]


def sleepy(piece: int) -> Tensor:
    time.sleep(0.005 + piece / 1000)
    return (PARAMETERS["w"] * piece).sum()


def test_it_measures_what_pieces_take_and_leaves_no_gradient() -> None:
    records, found = heard(probe(sleepy, PARAMETERS, SAMPLES, NOTHING, budget_s=5.0, memory_limit_bytes=1 << 50))
    assert records and all(isinstance(record, Progress) for record in records)
    model = fit(Weights(1.0, 0.0, 0.0), found.measures)
    # Sleeps are never short, and long ones on a busy machine.
    assert model.overhead_s < 0.05 and 0.0005 < 1 / model.units_per_s < 0.003
    assert 0.5 < found.forward_share < 2  # here a forward pass alone sleeps as long
    assert PARAMETERS["w"].grad is None and torch.equal(PARAMETERS["w"].data, torch.ones(3))


def test_the_first_run_of_a_size_is_left_out_where_another_followed() -> None:
    """It meets fresh memory, which a run of hours does once."""
    met: set[int] = set()

    def loss(piece: int) -> Tensor:
        if piece not in met:
            time.sleep(0.3)
        met.add(piece)
        return sleepy(piece)

    found = returned(probe(loss, PARAMETERS, SAMPLES, NOTHING, budget_s=5.0, memory_limit_bytes=1 << 50))
    assert {measure.work.tokens for measure in found.measures} == {10, 20, 50}
    assert max(measure.seconds for measure in found.measures) < 0.3


def test_a_piece_that_would_break_the_budget_is_not_run() -> None:
    sizes: list[int] = []

    def loss(piece: int) -> Tensor:
        sizes.append(piece)
        return sleepy(piece)

    slow = [*SAMPLES, Sample(5000, Work(5000, 5000, 0, 1))]
    start = time.perf_counter()
    found = returned(probe(loss, PARAMETERS, slow, NOTHING, budget_s=0.5, memory_limit_bytes=1 << 50))
    assert time.perf_counter() - start < 3.0
    assert 5000 not in sizes and {measure.work.tokens for measure in found.measures} == {10, 20, 50}


def test_a_piece_that_would_break_the_memory_is_not_run() -> None:
    held: list[Tensor] = []

    def loss(piece: int) -> Tensor:
        held[:] = [torch.ones(piece << 18)]  # a MiB for each token
        time.sleep(0.05)  # for the sampler to see it
        return (PARAMETERS["w"] * piece).sum()

    limit = resident_bytes() + (300 << 20)
    samples = [Sample(n, Work(n, n, 0, 1)) for n in (20, 100, 1000)]
    found = returned(
        probe(loss, PARAMETERS, samples, Footprint(float(1 << 20)), budget_s=2.0, memory_limit_bytes=limit)
    )
    assert {measure.work.tokens for measure in found.measures} == {20, 100}


def test_even_a_hopeless_budget_gives_two_sizes() -> None:
    found = returned(probe(sleepy, PARAMETERS, SAMPLES, NOTHING, budget_s=0.0, memory_limit_bytes=1 << 50))
    assert [measure.work.tokens for measure in found.measures] == [10, 20]
