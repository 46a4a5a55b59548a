"""What a packed piece costs: an explicit model with two fitted numbers.

    seconds = overhead + (a * tokens + b * learned + c * sum(length^2)) / speed

a, b and c are multiply-adds counted from the base's shape: the frozen matrices for every token, the head for every
learned token, attention for every pair inside a document. Their ratio is not fitted: the pieces of one data
set are too much alike to tell the three apart, and a plan is about pieces of that same data set. ``overhead`` (the
expansion of stored blocks, the calls of every layer) and ``speed`` come from a probe on this machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from nomoat.model.config import ModelConfig
from nomoat.model.recompute import Recompute


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Size of one piece or of many: tokens, learned tokens, and the sum of squared document lengths."""

    tokens: int = 0
    learned: int = 0
    squares: int = 0
    pieces: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.tokens + other.tokens,
            self.learned + other.learned,
            self.squares + other.squares,
            self.pieces + other.pieces,
        )

    def share(self, part: float) -> Work:
        """That part of the work, in whole numbers."""
        return Work(*(round(part * n) for n in (self.tokens, self.learned, self.squares, self.pieces)))


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """Multiply-adds of a forward pass and the gradient to its input: for a token, a learned token, a pair."""

    token: float
    learned: float
    square: float

    @classmethod
    def of(
        cls, config: ModelConfig, policy: Recompute = "least", *, skipped: int = 0, forward_only: int = 0
    ) -> Weights:
        """``skipped`` layers are not run at all, ``forward_only`` ones have no gradient through them.

        What ``policy`` makes again for backward counts too.
        """
        c = config
        learning = c.n_layers - skipped - forward_only
        attention = c.d_model * c.head_dim * (2 * c.n_heads + 2 * c.n_kv_heads)
        mlp = 3 * c.d_model * c.d_ff
        # Two products of a pair (scores and values) forward, four backward, over half the square.
        pair = (3 * learning + forward_only) * c.n_heads * c.head_dim
        again = {"least": 0.0, "mlp": 2 / 3 * mlp, "layer": float(attention + mlp)}[policy]
        if policy == "layer":
            pair += learning * c.n_heads * c.head_dim
        token = (2.0 * learning + forward_only) * (attention + mlp) + learning * again
        return cls(token, 2.0 * c.d_model * c.vocab_size, float(pair))

    def units(self, work: Work) -> float:
        """Multiply-adds of some work."""
        return self.token * work.tokens + self.learned * work.learned + self.square * work.squares


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """One timed piece. ``peak_bytes`` is the process's resident set at its highest."""

    work: Work
    seconds: float
    peak_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class CostModel:
    """The fitted model. ``spread`` is the relative scatter of the measures around it."""

    weights: Weights
    overhead_s: float
    units_per_s: float
    spread: float

    def seconds(self, work: Work) -> float:
        """Forward and backward of ``work``, in its number of pieces."""
        return self.overhead_s * work.pieces + self.weights.units(work) / self.units_per_s


def fit(weights: Weights, measures: Sequence[Measure]) -> CostModel:
    """Fit overhead and speed by least squares on the *relative* errors, both kept positive."""
    points = [(weights.units(measure.work), measure.seconds) for measure in measures]
    overhead, slope = _line(points)
    errors = [(overhead + slope * units) / seconds - 1 for units, seconds in points]
    freedom = max(1, len(points) - 2)
    spread = math.sqrt(sum(error * error for error in errors) / freedom)
    return CostModel(weights, overhead, 1 / slope, spread)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Intercept >= 0 and slope > 0 of seconds over units, each point weighted by 1 / seconds^2."""
    weights = [1 / (seconds * seconds) for _, seconds in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points)) / total
    across = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points))
    along = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points))
    slope = along / across if across > 1e-9 * total * mean_x**2 else 0.0
    overhead = mean_y - slope * mean_x
    if slope <= 0 or overhead < 0:
        return 0.0, mean_y / mean_x
    return overhead, slope
