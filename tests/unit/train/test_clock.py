"""Time across sessions, and what is left of it."""

from __future__ import annotations

import time

import pytest

from nomoat.train.clock import Clock


def test_it_goes_on_from_what_earlier_sessions_used() -> None:
    elapsed_s, cpu_s = Clock(100.0, 50.0).totals()
    assert 100 <= elapsed_s < 101 and 50 <= cpu_s < 51


def test_what_is_left_is_steps_and_measurements_at_their_mean() -> None:
    clock = Clock(0.0, 0.0)
    clock.start_lap()
    time.sleep(0.02)
    clock.eval_done()
    for _ in range(2):
        clock.start_lap()
        time.sleep(0.01)
        rate, left_s = clock.step_done(tokens=5, steps_left=10, evals_left=3)
    assert 0.16 <= left_s < 3
    assert rate == pytest.approx(10 / 0.02, rel=0.9) and rate <= 500
