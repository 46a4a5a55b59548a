"""Threads and determinism are set for a tune and put back."""

from __future__ import annotations

import pytest
import torch

from nomoat.core.machine import cores
from nomoat.train.setting import training_setting


def state() -> tuple[int, bool, bool]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def test_they_hold_inside_and_are_as_before_outside_even_after_an_error() -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), training_setting(1) as threads:
        assert threads == 1 and state() == (1, True, False)
        raise ZeroDivisionError
    assert state() == before


def test_no_count_means_every_core() -> None:
    before = state()
    with training_setting(0) as threads:
        assert threads == torch.get_num_threads() == cores()
    assert state() == before
