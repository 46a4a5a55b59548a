"""Wall and processor time of a run, across interruptions, and an estimate of what is left."""

from __future__ import annotations

import time
from collections import deque

_RATE_WINDOW = 8  # steps over which tokens/s is averaged: long enough to be calm, short enough to be current


class Clock:
    """Goes on from the seconds that earlier sessions of the same run have used."""

    def __init__(self, elapsed_s: float, cpu_s: float) -> None:
        self._wall = time.perf_counter() - elapsed_s
        self._cpu = time.process_time() - cpu_s
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RATE_WINDOW)
        self._lap_start = time.perf_counter()
        self._steps, self._step_s, self._evals, self._eval_s = 0, 0.0, 0, 0.0

    def totals(self) -> tuple[float, float]:
        """Wall and processor seconds since the run began, without the time between sessions."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    def start_lap(self) -> None:
        """A step or a held-out measurement begins now."""
        self._lap_start = time.perf_counter()

    def lap_s(self) -> float:
        """Seconds of the lap so far."""
        return max(time.perf_counter() - self._lap_start, 1e-9)

    def eval_done(self) -> None:
        """A held-out measurement ends now."""
        self._evals += 1
        self._eval_s += self.lap_s()

    def step_done(self, tokens: int, steps_left: int, evals_left: int) -> tuple[float, float]:
        """A step ends now; return tokens a second over the last steps, and the seconds that are left."""
        seconds = self.lap_s()
        self._recent.append((tokens, seconds))
        self._steps += 1
        self._step_s += seconds
        rate = sum(count for count, _ in self._recent) / sum(spent for _, spent in self._recent)
        left = self._step_s / self._steps * steps_left
        if self._evals:
            left += self._eval_s / self._evals * evals_left
        return rate, left
