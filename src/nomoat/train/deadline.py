"""When a tune must end: minutes from now, or a time of day."""

from __future__ import annotations

from datetime import datetime, timedelta

from nomoat.core.errors import UsageError


def seconds_until(clock: str, now: datetime) -> float:
    """Seconds from ``now`` to the next time the clock shows ``clock`` (``23:30``), local time.

    Raises ``UsageError`` where it is not a time of day.
    """
    try:
        wanted = datetime.strptime(clock.strip(), "%H:%M").time()
    except ValueError as error:
        raise UsageError(f"--finish-by {clock!r} is not a time of day", hint="write it as 23:30") from error
    end = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    if end <= now:
        end += timedelta(days=1)
    return (end - now).total_seconds()
