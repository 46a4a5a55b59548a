"""Figures: their axes are round, their marks are where the numbers are."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.core.records import Eval, Step
from nomoat.judge import plots


def step(number: int, loss: float) -> Step:
    return Step(number, 10, loss, 1e-4, 1.0, 100, 50.0, 1.0, 1.0)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_hold_the_range_and_are_few(low: float, span: float) -> None:
    ticks = plots.nice_ticks(low, low + span)
    slack = (abs(low) + span) * 1e-9
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 9


def test_ticks_are_one_two_or_five_apart() -> None:
    assert plots.nice_ticks(0, 0.354) == [0, 0.1, 0.2, 0.3, 0.4]
    assert plots.nice_ticks(0, 1000) == [0, 200, 400, 600, 800, 1000]
    assert plots.nice_ticks(0, 0) == plots.nice_ticks(0, 1)


def test_thinning_keeps_means_and_smoothing_keeps_a_straight_line_but_for_its_ends() -> None:
    points = [(float(x), 3.0 + 0.5 * x) for x in range(960)]
    assert len(plots.thinned(points)) == plots.MOST_POINTS
    assert plots.thinned(points)[0] == pytest.approx((1.5, 3.75))
    assert plots.smoothed(points)[40:-40] == [pytest.approx(point) for point in points[40:-40]]
    assert plots.smoothed([(0.0, 1.0), (1.0, 3.0)]) == [(0.0, 2.0), (1.0, 2.0)]


def test_a_loss_curve_is_well_formed_and_marks_the_best_held_out_loss() -> None:
    steps = [step(n, 3 / n) for n in range(1, 50)]
    evals = [Eval(0, 2.5, 10), Eval(25, 0.4, 10, best=True), Eval(49, 0.6, 10)]
    svg = str(plots.loss_curve(steps, evals))
    ElementTree.fromstring(svg)
    assert "best 0.400" in svg
    assert svg.count('class="held"') == 3
    assert svg.index("line trend") > svg.index("line raw")


def test_a_curve_of_nothing_is_nothing_and_losses_that_are_no_numbers_are_left_out() -> None:
    assert plots.loss_curve([], []) == ""
    svg = str(plots.loss_curve([step(1, math.nan), step(2, 1.0)], []))
    assert "nan" not in svg.lower()
    ElementTree.fromstring(svg)


def test_one_step_and_one_measurement_can_be_drawn() -> None:
    ElementTree.fromstring(str(plots.loss_curve([step(1, 2.0)], [Eval(1, 2.0, 10)])))


def test_bars_are_as_long_as_their_values_and_escape_their_labels() -> None:
    rows = [plots.Bar("<b>", 0.1, 0.05, 0.2, "before"), plots.Bar("After", 0.4, 0.3, 0.5, "after")]
    svg = str(plots.bars(rows, top=0.5, show="{:.1f}".format, tick_label="{:g}".format))
    widths = [float(width) for width in re.findall(r'class="bar \w+" x="74" y="[\d.]+" width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    assert "<b>" not in svg
    ElementTree.fromstring(svg)


def test_a_strip_has_better_on_the_right_whichever_way_the_measure_counts() -> None:
    def centre(svg: str) -> float:
        return float(re.findall(r'cx="([\d.]+)"', svg)[0])

    gain = str(plots.strip(0.2, 0.1, 0.3, higher_is_better=True, kind="good"))
    drop = str(plots.strip(-0.2, -0.3, -0.1, higher_is_better=False, kind="good"))
    harm = str(plots.strip(0.2, 0.1, 0.3, higher_is_better=False, kind="bad", margin=0.05))
    assert centre(gain) == centre(drop) > 110 > centre(harm)
    assert 'class="margin"' in harm
    assert 'class="margin"' not in gain
