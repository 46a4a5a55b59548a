"""Peak memory of a stretch of work: the process's resident set, sampled by a thread.

The kernel's own high-water mark (``VmHWM``, ``ru_maxrss``) covers the whole life of the process, loading
included, and cannot be asked for one stretch on every system; a sample each 10 ms can, and a training piece lasts
many of them. Pages of a memory-mapped model file that were touched are counted, as they are by every tool.
"""

from __future__ import annotations

import threading

import psutil

SAMPLE_S = 0.01


class PeakMemory:
    """Context manager; ``peak_bytes`` is the highest resident set seen since it was entered."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> PeakMemory:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, resident_bytes(self._process))


def resident_bytes(process: psutil.Process | None = None) -> int:
    """The resident set of this process now."""
    return int((process or psutil.Process()).memory_info().rss)
