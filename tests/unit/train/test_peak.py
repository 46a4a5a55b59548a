"""The memory sampler."""

from __future__ import annotations

import time

import torch

from nomoat.train.peak import PeakMemory, resident_bytes


def test_memory_that_was_held_for_a_moment_is_seen() -> None:
    before = resident_bytes()
    with PeakMemory() as memory:
        block = torch.ones(16 << 20)  # 64 MiB
        time.sleep(0.1)
        del block
    assert 60 << 20 < memory.peak_bytes - before < 200 << 20
    assert resident_bytes() < memory.peak_bytes
