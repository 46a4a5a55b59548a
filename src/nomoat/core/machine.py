"""What this machine has: cores, memory and disk as this process may use them, and a short speed probe.

In a container the limits of the control group count, not the host's (cgroup v2: ``memory.max``,
``memory.current``, ``cpu.max``; v1: ``memory.limit_in_bytes``, ``memory.usage_in_bytes``).
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    total_bytes: int
    available_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """``gflops``: float32 matrix products, 1e9 operations/s; ``memory_gb_s``: reads, 1e9 bytes/s."""

    gflops: float
    memory_gb_s: float


def cores() -> int:
    """Cores that this process may use: the affinity mask, cut to the control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1
    quota = _cpu_quota(_CGROUP)
    return max(1, min(allowed, math.ceil(quota)) if quota is not None else allowed)


def memory() -> Memory:
    """Memory that this process may use, and what of it is free now."""
    import psutil

    host = psutil.virtual_memory()
    limit, used = _memory_limit(_CGROUP)
    if limit is None or limit >= host.total:
        return Memory(host.total, host.available)
    return Memory(limit, max(0, min(host.available, limit - used)))


def disk_free_bytes(path: Path) -> int:
    """Free space on the disk that holds ``path`` or would hold it."""
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free


def _cpu_quota(root: Path) -> float | None:
    words = _read(root / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
        return int(words[0]) / int(words[1])
    return None


def _memory_limit(root: Path) -> tuple[int | None, int]:
    """Limit (None: no limit) and use in bytes, of cgroup v2 or else v1."""
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit, usage = _read(root / limit_file), _read(root / usage_file)
        if limit.isdigit():
            return int(limit), int(usage) if usage.isdigit() else 0
    return None, 0


def _read(path: Path) -> str:
    """A small control file's text; empty where there is none or it is not ours to read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def probe_speed(seconds: float = 2.0) -> Speed:
    """Measure float32 products and memory reads with torch for about ``seconds``; best of the tries."""
    import torch

    side = 768
    left, right = torch.randn(side, side), torch.randn(side, side)
    out = torch.empty(side, side)
    product_s = _fastest(lambda: torch.mm(left, right, out=out), seconds / 2)
    # Larger than most caches, small against the memory of any machine that can tune.
    n_floats = (64 << 20) // 4
    values = torch.zeros(n_floats)
    read_s = _fastest(values.sum, seconds / 2)
    return Speed(gflops=2 * side**3 / product_s / 1e9, memory_gb_s=4 * n_floats / read_s / 1e9)


def _fastest(work: Callable[[], object], seconds: float) -> float:
    work()
    best, end = math.inf, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best
