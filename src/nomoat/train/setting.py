"""Threads and determinism for the length of a tune, put back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from nomoat.core.machine import cores


@contextlib.contextmanager
def training_setting(threads: int) -> Iterator[int]:
    """Give the thread count in force: ``threads``, or every core at 0.

    Sums split over another number of threads round differently, so runs are reproducible to the byte at one
    count only. The deterministic switch makes scatter-adds keep their order; the filling of fresh memory that comes
    with it is switched off, as it costs a pass over every tensor and nothing of ours reads such memory.
    """
    count = threads or cores()
    before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield count
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
