"""What a run will cost, said before it starts.

The interval is meant to hold eight times in ten: it covers the scatter of the probe, and a drift allowance for what a
probe of seconds cannot see in a run of minutes (clock rates, heat, other programs).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from nomoat.model.recompute import Recompute
from nomoat.train.cost import fit
from nomoat.train.fitting import check_disk, fit_memory, fit_time, given_up_for_time
from nomoat.train.footprint import peak_at
from nomoat.train.prediction import Z80, Case, Outline, Way, Wish, disk_bytes_of, peak_of, seconds_of, sigma_of
from nomoat.train.probe import Probe


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


def make_plan(wish: Wish, probe: Probe, ways: Sequence[Way], outline: Callable[[int], Outline]) -> Plan:
    """Predict the run, cut to its limits. ``outline`` tells what the run is for a setting of ``pack_tokens``.

    ``ways`` go from the fastest to the smallest; the probe ran the first. Raises ``ResourceError`` where the run does
    not fit, with what would.
    """
    model = fit(ways[0].weights, probe.measures)

    def case(way: Way, pack_tokens: int) -> Case:
        of = outline(pack_tokens)
        peak = peak_of(wish, peak_at(probe.measures, ways[0].footprint, way.footprint, of.largest))
        return Case(way, of, dataclasses.replace(model, weights=way.weights), peak)

    chosen, gave_up = fit_memory(wish, probe, ways, case)
    steps = wish.steps
    if wish.budget_s is not None:
        steps = fit_time(wish, probe, chosen.model, chosen.outline)
        gave_up += given_up_for_time(wish, steps)
    check_disk(wish)
    return dataclasses.replace(_predict(wish, probe, chosen, steps), gave_up=tuple(gave_up))


def _predict(wish: Wish, probe: Probe, case: Case, steps: int) -> Plan:
    model, outline = case.model, case.outline
    work = outline.work(steps)
    seconds = seconds_of(wish, probe, model, outline, steps)
    spread = math.exp(Z80 * sigma_of(probe, model, outline))
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
        disk_bytes=disk_bytes_of(wish),
        busy=probe.busy,
        recompute=case.way.recompute,
    )
