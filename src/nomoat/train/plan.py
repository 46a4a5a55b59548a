"""What a run will cost, said before it starts, and what to give up so that it fits.

Time is the cost model over the run's own batches, plus held-out measurements, updates and checkpoints. The interval
is meant to hold eight times in ten: it covers the scatter of the probe, and a drift allowance for what a
probe of seconds cannot see in a run of minutes (clock rates, heat, other programs).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from nomoat.core.amounts import duration, size
from nomoat.core.errors import ResourceError
from nomoat.model.recompute import Recompute
from nomoat.train.checkpoint import KEPT
from nomoat.train.cost import CostModel, Weights, Work, fit
from nomoat.train.footprint import Footprint, peak_at
from nomoat.train.probe import Probe

_Z80 = 1.2816  # of a normal distribution: 80 % lies within
_DRIFT = 0.10
_DRIFT_EXTRAPOLATED = 0.10  # more, where the largest piece was not run
_SMALLEST_STEPS = 4  # fewer updates than this are not a tune
_CHECKPOINT_S = 60.0
_DISK_BYTES_PER_S = 100e6  # a slow laptop disk, with the wait until the bytes are down
_CLOSING_S = 2.0  # writing the adapter and drawing the curve
_MEMORY_MARGIN = 1.05
_SMALLEST_PACK = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Outline:
    """What a run consists of with one setting of ``pack_tokens``: work of a mean step, largest piece, evaluations.

    ``step`` holds the work of ``sampled`` steps together; ``longest_row`` in tokens.
    """

    pack_tokens: int
    step: Work
    sampled: int
    largest_tokens: int
    longest_row: int
    held_out: Work

    @property
    def largest(self) -> Work:
        """The largest piece, with as many learned tokens as the mean."""
        return Work(self.largest_tokens, round(self.step.learned / max(1, self.step.tokens) * self.largest_tokens))

    def work(self, steps: int) -> Work:
        """Work of that many steps."""
        return self.step.share(steps / self.sampled)


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for, and the limits. ``budget_s`` counts from now; ``None`` where nothing was said.

    ``memory_bytes`` is the user's own bound, ``available_bytes`` what this process could have at most. ``once_s``: what
    is done once before the first step; ``cache_bytes`` what it leaves on disk until the end. ``members``: adapters that
    learn side by side, of which ``steps`` and ``parameter_bytes`` are sums.
    """

    steps: int
    steps_per_epoch: int
    rows: int
    batch_size: int
    pack_tokens: int
    eval_every: int
    parameter_bytes: int
    available_bytes: int
    disk_free_bytes: int
    memory_bytes: int | None = None
    budget_s: float | None = None
    budget_words: str = ""
    once_s: float = 0.0
    cache_bytes: int = 0
    members: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way to run the same training: what it keeps and what it makes again, and what that costs."""

    recompute: Recompute
    weights: Weights
    footprint: Footprint


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The prediction. ``low_s`` and ``high_s`` bound 80 %; seconds count from the first step on."""

    steps: int
    epochs: float
    rows: int
    tokens: int
    pack_tokens: int
    seconds: float
    low_s: float
    high_s: float
    tokens_per_second: float
    peak_bytes: int
    disk_bytes: int
    busy: float
    recompute: Recompute = "least"
    gave_up: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class _Case:
    """A way with a setting of ``pack_tokens``, on the machine that was probed with the first of the ways."""

    way: Way
    outline: Outline
    model: CostModel
    peak_bytes: int


def make_plan(wish: Wish, probe: Probe, ways: Sequence[Way], outline: Callable[[int], Outline]) -> Plan:
    """Predict the run, cut to its limits. ``outline`` tells what the run is for a setting of ``pack_tokens``.

    ``ways`` go from the fastest to the smallest; the probe ran the first. Raises ``ResourceError`` where the run does
    not fit, with what would.
    """
    model = fit(ways[0].weights, probe.measures)

    def case(way: Way, pack_tokens: int) -> _Case:
        of = outline(pack_tokens)
        peak = _peak(wish, peak_at(probe.measures, ways[0].footprint, way.footprint, of.largest))
        return _Case(way, of, dataclasses.replace(model, weights=way.weights), peak)

    chosen, gave_up = _fit_memory(wish, probe, ways, case)
    steps = wish.steps
    if wish.budget_s is not None:
        steps = _fit_time(wish, probe, chosen.model, chosen.outline)
        gave_up += _given_up_for_time(wish, steps)
    plan = dataclasses.replace(_predict(wish, probe, chosen, steps), gave_up=tuple(gave_up))
    _check_disk(wish, plan)
    return plan


def _predict(wish: Wish, probe: Probe, case: _Case, steps: int) -> Plan:
    model, outline = case.model, case.outline
    work = outline.work(steps)
    seconds = _seconds(wish, probe, model, outline, steps)
    spread = math.exp(_Z80 * _sigma(probe, model, outline))
    return Plan(
        steps=steps,
        epochs=round(steps / wish.steps_per_epoch, 4),
        rows=min(wish.rows, steps * wish.batch_size),
        tokens=work.tokens,
        pack_tokens=outline.pack_tokens,
        seconds=seconds,
        low_s=seconds / spread,
        high_s=seconds * spread,
        tokens_per_second=work.tokens / (model.seconds(work) + steps * probe.update_s),
        peak_bytes=case.peak_bytes,
        disk_bytes=_disk_bytes(wish),
        busy=probe.busy,
        recompute=case.way.recompute,
    )


def _seconds(wish: Wish, probe: Probe, model: CostModel, outline: Outline, steps: int) -> float:
    evals = wish.members + math.ceil(steps / wish.eval_every) if outline.held_out.tokens else 0
    training = model.seconds(outline.work(steps)) + steps * probe.update_s
    measuring = evals * probe.forward_share * model.seconds(outline.held_out)
    saves = 1 + evals + (training + measuring) / _CHECKPOINT_S
    return wish.once_s + training + measuring + saves * 4 * wish.parameter_bytes / _DISK_BYTES_PER_S + _CLOSING_S


def _sigma(probe: Probe, model: CostModel, outline: Outline) -> float:
    """Relative standard error of the predicted time."""
    largest = max(measure.work.tokens for measure in probe.measures)
    drift = _DRIFT + probe.busy / 2
    if largest < outline.largest_tokens:
        drift += _DRIFT_EXTRAPOLATED
    return math.hypot(drift, model.spread / math.sqrt(len(probe.measures)))


def _peak(wish: Wish, piece_bytes: int) -> int:
    """What pieces take, plus what only a run holds: two moments, the best parameters."""
    return int(_MEMORY_MARGIN * (piece_bytes + 3 * wish.parameter_bytes))


def _disk_bytes(wish: Wish) -> int:
    """Checkpoints (parameters, two moments, best; one more than are kept while it is written) and the adapter."""
    return (4 * (KEPT + 1) + 1) * wish.parameter_bytes + wish.cache_bytes


# -- memory


_AGAIN: dict[Recompute, str] = {"mlp": "parts of the MLPs", "layer": "every layer"}


def _fit_memory(
    wish: Wish, probe: Probe, ways: Sequence[Way], case: Callable[[Way, int], _Case]
) -> tuple[_Case, list[str]]:
    """The fastest case that fits: other ways at first, and smaller pieces where a bound was asked for."""
    asked = case(ways[0], wish.pack_tokens)
    limit = min(wish.available_bytes, wish.memory_bytes or wish.available_bytes)
    if asked.peak_bytes <= limit:
        return asked, []
    whole = [one for way in ways if (one := case(way, wish.pack_tokens)).peak_bytes <= limit]
    smaller = [case(way, tokens) for tokens in _smaller(asked.outline) for way in ways]
    smaller = [one for one in smaller if one.peak_bytes <= limit]
    fitting = [*whole, *smaller] if wish.memory_bytes is not None else whole
    if not whole and not smaller:
        raise ResourceError(
            f"this tune needs about {size(asked.peak_bytes)} of memory; {size(limit)} {_whose(wish)}",
            hint=f"not even pieces of one row ({asked.outline.longest_row} tokens) fit: give a shorter --max-seq-len, "
            f"a smaller --rank or a smaller base, or close other programs",
        )
    if not fitting:
        raise ResourceError(
            f"this tune needs about {size(asked.peak_bytes)} of memory; {size(limit)} are free",
            hint=f"--pack-tokens {smaller[0].outline.pack_tokens} learns the same with {size(smaller[0].peak_bytes)}",
        )
    best = min(fitting, key=lambda one: _seconds(wish, probe, one.model, one.outline, wish.steps))
    return best, [_given_up_for_memory(asked, best, limit)]


def _given_up_for_memory(asked: _Case, chosen: _Case, limit: int) -> str:
    words = []
    if chosen.way != asked.way:
        words.append(f"computes {_AGAIN[chosen.way.recompute]} twice")
    if chosen.outline.pack_tokens != asked.outline.pack_tokens:
        words.append(f"packs {chosen.outline.pack_tokens} tokens at a time instead of {asked.outline.pack_tokens}")
    return f"{' and '.join(words)} to stay under {size(limit)}: the same learning, a little slower"


def _whose(wish: Wish) -> str:
    bounded = wish.memory_bytes is not None and wish.memory_bytes <= wish.available_bytes
    return "were allowed" if bounded else "are free"


def _smaller(asked: Outline) -> list[int]:
    """Ever smaller settings of ``pack_tokens``, down to pieces of the longest row."""
    settings, tokens = [], min(asked.pack_tokens, asked.largest_tokens)
    while tokens * 3 // 4 > max(asked.longest_row, _SMALLEST_PACK):
        tokens = tokens * 3 // 4
        settings.append(tokens)
    return [*settings, asked.longest_row]


# -- time


def _fit_time(wish: Wish, probe: Probe, model: CostModel, outline: Outline) -> int:
    """The most steps whose upper bound keeps to the budget; fewer epochs first, then fewer rows."""
    assert wish.budget_s is not None
    spread = math.exp(_Z80 * _sigma(probe, model, outline))

    def fits(steps: int) -> bool:
        return _seconds(wish, probe, model, outline, steps) * spread <= (wish.budget_s or 0)

    low, high = 0, wish.steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    least = min(_SMALLEST_STEPS, wish.steps)
    if low < least:
        need_s = _seconds(wish, probe, model, outline, least) * spread
        raise ResourceError(
            f"{wish.budget_words}: {duration(wish.budget_s)} are left, and even {least} steps need "
            f"up to {duration(need_s)}",
            hint=f"give --minutes {math.ceil(need_s / 60) + 1} or more, a smaller --batch-size, or a smaller base",
        )
    return low


def _given_up_for_time(wish: Wish, steps: int) -> list[str]:
    if steps >= wish.steps:
        return []
    asked = wish.steps / wish.steps_per_epoch
    if steps >= wish.steps_per_epoch:
        return [f"{steps / wish.steps_per_epoch:.2g} of {asked:g} epochs, {wish.budget_words}"]
    rows = min(wish.rows, steps * wish.batch_size)
    fewer = f"one pass over {rows:,} of {wish.rows:,} rows"
    return [f"{fewer} instead of {asked:g} epochs, {wish.budget_words}"]


def _check_disk(wish: Wish, plan: Plan) -> None:
    if plan.disk_bytes > wish.disk_free_bytes:
        raise ResourceError(
            f"this tune needs {size(plan.disk_bytes)} of disk; {size(wish.disk_free_bytes)} are free",
            hint="free some space, point NOMOAT_HOME at another disk, or give a smaller --rank"
            + (", or --prefix-cache bf16 or none" if wish.cache_bytes else ""),
        )
