"""Learning-rate schedules: a factor between 0 and 1 for every step, with a linear warm-up.

The formulas are those behind ``transformers.get_scheduler`` (``linear``, ``cosine`` with half a period,
``constant_with_warmup``), so that the same settings give the same rates there and here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nomoat.core.errors import UsageError

# Each takes the progress after the warm-up, 0 at its end and 1 at the end of the run.
_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
    "constant": lambda progress: 1.0,
}
SCHEDULES = tuple(_SHAPES)


def warmup_steps(total_steps: int, fraction: float) -> int:
    """Steps of warm-up in a run; a part of a step counts as one."""
    return math.ceil(total_steps * fraction)


def factor(schedule: str, step: int, total_steps: int, warmup: int) -> float:
    """Return the factor on the learning rate for the step of that number, counted from 0."""
    if schedule not in _SHAPES:
        raise UsageError(f"no schedule {schedule!r}", hint="one of: " + ", ".join(SCHEDULES))
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total_steps - warmup)
    return max(0.0, _SHAPES[schedule](progress))
