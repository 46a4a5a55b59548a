"""What a run consists of, what was asked for, and what it costs in seconds, memory and disk.

Time is the cost model over the run's own batches, plus held-out measurements, updates and checkpoints.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from nomoat.model.recompute import Recompute
from nomoat.train.checkpoint import KEPT
from nomoat.train.cost import CostModel, Weights, Work
from nomoat.train.footprint import Footprint
from nomoat.train.probe import Probe

Z80: Final = 1.2816  # of a normal distribution: 80 % lies within
_DRIFT = 0.10
_DRIFT_EXTRAPOLATED = 0.10  # more, where the largest piece was not run
_CHECKPOINT_S = 60.0
_DISK_BYTES_PER_S = 100e6  # a slow laptop disk, with the wait until the bytes are down
_CLOSING_S = 2.0  # writing the adapter and drawing the curve
_MEMORY_MARGIN = 1.05


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
class Case:
    """A way with a setting of ``pack_tokens``, on the machine that was probed with the first of the ways."""

    way: Way
    outline: Outline
    model: CostModel
    peak_bytes: int


def seconds_of(wish: Wish, probe: Probe, model: CostModel, outline: Outline, steps: int) -> float:
    """Seconds of the whole run, from the first step on."""
    evals = wish.members + math.ceil(steps / wish.eval_every) if outline.held_out.tokens else 0
    training = model.seconds(outline.work(steps)) + steps * probe.update_s
    measuring = evals * probe.forward_share * model.seconds(outline.held_out)
    saves = 1 + evals + (training + measuring) / _CHECKPOINT_S
    return wish.once_s + training + measuring + saves * 4 * wish.parameter_bytes / _DISK_BYTES_PER_S + _CLOSING_S


def sigma_of(probe: Probe, model: CostModel, outline: Outline) -> float:
    """Relative standard error of the predicted time."""
    largest = max(measure.work.tokens for measure in probe.measures)
    drift = _DRIFT + probe.busy / 2
    if largest < outline.largest_tokens:
        drift += _DRIFT_EXTRAPOLATED
    return math.hypot(drift, model.spread / math.sqrt(len(probe.measures)))


def peak_of(wish: Wish, piece_bytes: int) -> int:
    """What pieces take, plus what only a run holds: two moments, the best parameters."""
    return int(_MEMORY_MARGIN * (piece_bytes + 3 * wish.parameter_bytes))


def disk_bytes_of(wish: Wish) -> int:
    """Checkpoints (parameters, two moments, best; one more than are kept while it is written) and the adapter."""
    return (4 * (KEPT + 1) + 1) * wish.parameter_bytes + wish.cache_bytes
