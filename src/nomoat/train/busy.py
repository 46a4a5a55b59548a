"""How much of the machine other programs take, over a stretch of time."""

from __future__ import annotations

import time

import psutil


class OtherPrograms:
    """Starts counting when made."""

    def __init__(self) -> None:
        self._wall, self._own, self._all = time.perf_counter(), time.process_time(), _worked_s()

    def share(self) -> float:
        """Share of all cores' time since then that other processes worked, 0 to 1."""
        wall_s = time.perf_counter() - self._wall
        others_s = (_worked_s() - self._all) - (time.process_time() - self._own)
        cores_s = wall_s * (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, others_s / cores_s)) if cores_s > 0 else 0.0


def _worked_s() -> float:
    """Seconds that all cores together have worked since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.system)
