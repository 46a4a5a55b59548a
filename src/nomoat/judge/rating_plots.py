"""The leaderboard's figures: values with their intervals, one line each, under the name. Small inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup, escape

from nomoat.judge.plots import nice_ticks, svg
from nomoat.judge.statistics import Interval

_WIDTH: Final = 480
_EDGE: Final = 14
_PITCH: Final = 46
_LONGEST_NAME: Final = 34

Rows = Sequence[tuple[str, Interval]]
Show = Callable[[float], str]


def dots(rows: Rows, *, show: Show, title: str) -> Markup:
    """A dot and a whisker each, on a scale that just holds them."""
    ticks = nice_ticks(min(row.low for _, row in rows), max(row.high for _, row in rows))
    return _figure(rows, ticks, show, title, bars=False)


def shares(rows: Rows, *, show: Show, title: str) -> Markup:
    """A bar from nothing to the whole, with a whisker; half is marked."""
    return _figure(rows, [0, 0.25, 0.5, 0.75, 1], show, title, bars=True)


def _figure(rows: Rows, ticks: Sequence[float], show: Show, title: str, *, bars: bool) -> Markup:
    def x(value: float) -> float:
        inside = min(max(value, ticks[0]), ticks[-1])
        return _EDGE + (inside - ticks[0]) / (ticks[-1] - ticks[0]) * (_WIDTH - 2 * _EDGE)

    bottom = len(rows) * _PITCH
    parts = []
    for tick in ticks:
        kind = "zero" if bars and tick == 0.5 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{bottom}"/>')
        anchor = "start" if tick == ticks[0] else "end" if tick == ticks[-1] else "middle"
        label = f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="{anchor}">'
        parts.append(f"{label}{escape(show(tick))}</text>")
    for number, (name, row) in enumerate(rows):
        parts.append(_row(name, row, number * _PITCH, x, show, bars=bars))
    said = "; ".join(f"{name}: {show(row.value)}, {show(row.low)} to {show(row.high)}" for name, row in rows)
    return svg(_WIDTH, bottom + 22, f"{title}: {said}", parts, kind="chart")


def shortened(name: str) -> str:
    """A name with room for the numbers beside it; stacks on one base differ at the end, so the middle goes."""
    if len(name) <= _LONGEST_NAME:
        return name
    kept = _LONGEST_NAME - 1
    return f"{name[: kept // 2]}…{name[kept // 2 - kept :]}"


def _row(name: str, row: Interval, top: float, x: Callable[[float], float], show: Show, *, bars: bool) -> str:
    """The name and the numbers above, the mark below."""
    middle = top + 29
    low, value, high = (f"{x(number):.1f}" for number in (row.low, row.value, row.high))
    level, upright = f'y1="{middle:g}" y2="{middle:g}"', f'y1="{middle - 5:g}" y2="{middle + 5:g}"'
    box = f'x="{_EDGE}" y="{middle - 7:g}" height="14" width="{x(row.value) - _EDGE:.1f}" rx="2"'
    numbers = f"{show(row.value)}  ({show(row.low)} to {show(row.high)})"
    return (
        f'<text class="label" x="{_EDGE}" y="{top + 14:g}">{escape(shortened(name))}</text>'
        f'<text class="label numbers" x="{_WIDTH - _EDGE}" y="{top + 14:g}" text-anchor="end">{escape(numbers)}</text>'
        + (f'<rect class="bar after" {box}/>' if bars else "")
        + f'<line class="whisker" x1="{low}" x2="{high}" {level}/>'
        + f'<line class="whisker" x1="{low}" x2="{low}" {upright}/>'
        + f'<line class="whisker" x1="{high}" x2="{high}" {upright}/>'
        + ("" if bars else f'<circle class="dot" cx="{value}" cy="{middle:g}" r="5"/>')
    )
