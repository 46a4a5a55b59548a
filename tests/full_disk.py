"""A disk that fills up: inside the block, files of this process cannot grow beyond a size.

A block and not a fixture: a fixture would still hold when pytest writes the test's result to its own output file.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def small_disk(size_bytes: int) -> Iterator[None]:
    """Writes beyond ``size_bytes`` fail as they do on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
