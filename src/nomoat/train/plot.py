"""The loss curve of a run as a PNG, drawn from its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nomoat.core.files import disk_errors

_SMOOTHING = 0.9  # of the running mean that shows the trend through the noise of single steps


def draw_losses(log: Path, target: Path) -> None:
    """Read ``log.jsonl`` and draw training and held-out loss over the steps; nothing where there is only one step."""
    records = read_log(log)
    steps = [record for record in records if record["record"] == "step"]
    if len(steps) < 2:
        return
    # Here and not above: matplotlib takes half a second to import, and only this function needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    evals = [record for record in records if record["record"] == "eval"]
    figure = Figure(figsize=(6.4, 3.6))
    axes = figure.add_axes((0.09, 0.13, 0.89, 0.84))
    numbers, losses = [step["step"] for step in steps], [step["loss"] for step in steps]
    axes.plot(numbers, losses, color="#b8c4d6", linewidth=0.8, label="each step")
    axes.plot(numbers, _trend(losses), color="#2f5d9f", linewidth=1.6, label="trend")
    if evals:
        marks = [record["step"] for record in evals], [record["loss"] for record in evals]
        axes.plot(*marks, color="#c8553d", marker="o", markersize=3.5, linewidth=1.2, label="held out")
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    with disk_errors(target):
        FigureCanvasAgg(figure).print_png(str(target))  # type: ignore[no-untyped-call]


def read_log(log: Path) -> list[dict[str, Any]]:
    """The records of a log, as they were written."""
    with disk_errors(log):
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _trend(losses: list[float]) -> list[float]:
    """Exponential running mean, corrected for its start."""
    mean, weight, trend = 0.0, 0.0, []
    for loss in losses:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        trend.append(mean / weight)
    return trend
