"""A short probe on this machine: a few real pieces forward and backward, timed, their memory watched."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Generic

import torch
from torch import Tensor

from nomoat.core.records import Progress, Record
from nomoat.kernels.memory import Pool
from nomoat.train.adamw import AdamW, AdamWOptions
from nomoat.train.busy import OtherPrograms
from nomoat.train.cost import Measure, Work
from nomoat.train.footprint import Footprint, peak_at
from nomoat.train.peak import PeakMemory
from nomoat.train.state import P

_ALWAYS = 2  # samples that are run whatever they take: one size alone says nothing about how memory grows
_ROUNDS = 4  # more rounds would measure the same short moment again
_FORWARD_SHARE = 0.4  # of forward + backward, where the probe had no time to measure it


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """What was measured. ``forward_share`` is a held-out piece's time over that of a training piece.

    ``busy`` is the share of the machine's processor time that went to other programs meanwhile.
    """

    measures: tuple[Measure, ...]
    forward_share: float
    update_s: float
    busy: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Sample(Generic[P]):
    """A piece to try, and its size."""

    piece: P
    work: Work


def probe(
    loss: Callable[[P], Tensor],
    parameters: Mapping[str, torch.nn.Parameter],
    samples: Sequence[Sample[P]],
    footprint: Footprint,
    *,
    budget_s: float,
    memory_limit_bytes: int,
) -> Generator[Record, None, Probe]:
    """Time ``samples``, given from small to large, for about ``budget_s``; gradients are thrown away.

    Beyond the first two, a sample is left out where the smaller ones say that it would take more than the time left,
    or than the memory limit: the plan then extrapolates. The first run of all only warms caches and thread pools.
    """
    start, others = time.perf_counter(), OtherPrograms()
    update_s = _time_update(parameters)
    pool = Pool()
    _run(loss, parameters, samples[0], pool)
    measures: list[Measure] = []
    for number in range(_ROUNDS):
        for place, sample in enumerate(samples):
            left_s = budget_s - (time.perf_counter() - start)
            if number == 0 and place < _ALWAYS:
                left_s = math.inf
            if measures and not _affordable(sample, measures, left_s):
                continue
            if measures and peak_at(measures, footprint, footprint, sample.work) > memory_limit_bytes:
                continue
            measures.append(_run(loss, parameters, sample, pool))
            yield Progress("measuring this machine", min(budget_s, time.perf_counter() - start), budget_s, "s")
        if time.perf_counter() - start > budget_s * (number + 1) / (number + 2):
            break  # another round would not fit
    measures = _in_place(measures)
    forward_share = _forward_share(loss, samples, measures, budget_s - (time.perf_counter() - start))
    seconds = time.perf_counter() - start
    return Probe(tuple(measures), forward_share, update_s, others.share(), seconds)


def _in_place(measures: Sequence[Measure]) -> list[Measure]:
    """Without each sample's first run where it ran again: that one still met fresh memory, which costs a fifth more."""
    found: dict[Work, list[Measure]] = {}
    for measure in measures:
        found.setdefault(measure.work, []).append(measure)
    return [measure for runs in found.values() for measure in runs[1:] or runs]


def _affordable(sample: Sample[P], measures: Sequence[Measure], left_s: float) -> bool:
    nearest = min(measures, key=lambda measure: abs(measure.work.tokens - sample.work.tokens))
    return nearest.seconds * max(1.0, sample.work.tokens / nearest.work.tokens) <= left_s


def _run(
    loss: Callable[[P], Tensor], parameters: Mapping[str, torch.nn.Parameter], sample: Sample[P], pool: Pool
) -> Measure:
    with pool, PeakMemory() as memory:
        start = time.perf_counter()
        loss(sample.piece).backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - start
    for parameter in parameters.values():
        parameter.grad = None
    return Measure(sample.work, seconds, memory.peak_bytes)


def _time_update(parameters: Mapping[str, torch.nn.Parameter]) -> float:
    """Seconds of one optimiser step, on copies; the second one counts, as it finds its memory in place."""
    copies = {name: torch.nn.Parameter(value.detach().clone()) for name, value in parameters.items()}
    for copy in copies.values():
        copy.grad = torch.zeros_like(copy)
    optimizer = AdamW(copies, AdamWOptions())
    optimizer.update(1e-3)
    start = time.perf_counter()
    torch.nn.utils.clip_grad_norm_(list(copies.values()), 1.0)
    optimizer.update(1e-3)
    return time.perf_counter() - start


@torch.no_grad()
def _forward_share(
    loss: Callable[[P], Tensor], samples: Sequence[Sample[P]], measures: Sequence[Measure], left_s: float
) -> float:
    tried = [sample for sample in samples if any(m.work == sample.work for m in measures)]
    affordable = [
        sample
        for sample in tried
        if _mean_seconds(measures, sample.work) * _FORWARD_SHARE < left_s or sample is tried[0]
    ]
    sample = affordable[-1]
    start = time.perf_counter()
    loss(sample.piece)
    return (time.perf_counter() - start) / _mean_seconds(measures, sample.work)


def _mean_seconds(measures: Sequence[Measure], work: Work) -> float:
    seconds = [measure.seconds for measure in measures if measure.work == work]
    return sum(seconds) / len(seconds)
