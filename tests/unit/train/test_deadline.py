"""Times of day."""

from __future__ import annotations

from datetime import datetime

import pytest

from nomoat.core.errors import UsageError
from nomoat.train.deadline import seconds_until

EVENING = datetime(2026, 3, 1, 22, 30, 15)


def test_a_time_later_today_is_today() -> None:
    assert seconds_until("23:30", EVENING) == 3600 - 15


def test_a_time_that_has_passed_is_tomorrow() -> None:
    assert seconds_until("06:30", EVENING) == 8 * 3600 - 15
    assert seconds_until("22:30", EVENING) == 24 * 3600 - 15


@pytest.mark.parametrize("clock", ["24:00", "7pm", "", "12:60", "soon"])
def test_what_is_no_time_of_day_is_refused(clock: str) -> None:
    with pytest.raises(UsageError, match="not a time of day"):
        seconds_until(clock, EVENING)
