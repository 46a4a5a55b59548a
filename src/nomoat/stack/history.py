"""Skills over the generations of an adapter: each that learned on top of others wrote down what became of theirs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from nomoat.core.artefacts import Artefact, locate, read_kind
from nomoat.core.errors import UsageError
from nomoat.core.files import disk_errors
from nomoat.core.store import Lineage, Store

MOST_SKILLS_NAMED, MOST_GENERATIONS_NAMED = 10, 25


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """One adapter of a descent: how it was made, size, highest rank, and held-out losses by data set (nats a token)."""

    name: str
    made: str
    parameters: int
    rank: int
    losses: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """What became of one skill: its loss when first measured, the worst and where, and the last (nats a token)."""

    skill: str
    first: float
    worst: float
    worst_at: str
    last: float


def generations(store: Store, artefact: Artefact) -> list[Generation]:
    """The adapter and the adapters it descends from, earliest first. Raises ``UsageError`` for another kind."""
    if artefact.kind != "adapters" or artefact.lineage is None:
        raise UsageError(f"{artefact.spec} has no history of skills", hint="nomoat show ADAPTER --history")
    return [_generation(lineage) for lineage in _earliest_first(store, artefact.lineage)]


def _earliest_first(store: Store, last: Lineage) -> list[Lineage]:
    """Parents before children, each once; a loop in damaged records is cut. However long a descent is."""
    here, seen = set(store.names("adapters")), {last.name}
    ordered: list[Lineage] = []
    path = [(last, iter(last.parents))]
    while path:
        lineage, parents = path[-1]
        parent = next(parents, None)
        if parent is None:
            ordered.append(lineage)
            path.pop()
        elif read_kind(parent.kind) == "adapters" and parent.name in here and parent.name not in seen:
            seen.add(parent.name)
            theirs = locate(store, f"adapters/{parent.name}").lineage
            if theirs is not None:
                path.append((theirs, iter(theirs.parents)))
    return ordered


def _generation(lineage: Lineage) -> Generation:
    metrics = lineage.metrics
    data = next((parent.name for parent in lineage.parents if parent.kind == "data"), "")
    losses = {name: float(each["after"]) for name, each in (metrics.get("skills") or {}).items()}
    if data and metrics.get("held_out_loss_after") is not None:
        losses[data] = float(metrics["held_out_loss_after"])
    made = f"learned {data}" if data else str(lineage.options.get("method", ""))
    rank = metrics.get("highest_rank") or lineage.options.get("rank") or 0
    return Generation(lineage.name, made, int(metrics.get("adapter_parameters") or 0), int(rank), losses)


def courses(history: Sequence[Generation]) -> list[Course]:
    """One for each data set that was measured, in the order they came in."""
    found = []
    for skill in dict.fromkeys(name for each in history for name in each.losses):
        losses = [(each.losses[skill], each.name) for each in history if skill in each.losses]
        worst, where = max(losses, key=lambda each: each[0])
        found.append(Course(skill, losses[0][0], worst, where, losses[-1][0]))
    return found


def draw_history(history: Sequence[Generation], target: Path) -> None:
    """A line for each skill over the generations, as a PNG.

    Only so many names are written as can be told apart: of the generations at even distances, of the skills those
    that lost most; the others are drawn in grey.
    """
    # Here and not above: matplotlib takes half a second to import, and only this function needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(14.0, max(5.0, 1.5 + 0.6 * len(history))), 3.6), layout="constrained")
    axes = figure.add_subplot()
    skills = courses(history)
    lost_most = sorted(skills, key=lambda each: each.first - each.last)
    named = {each.skill for each in lost_most[:MOST_SKILLS_NAMED]}
    for course in skills:
        points = [
            (place, each.losses[course.skill]) for place, each in enumerate(history) if course.skill in each.losses
        ]
        places, losses = zip(*points)
        if course.skill in named:
            axes.plot(places, losses, marker="o", markersize=3.5, linewidth=1.4, label=course.skill)
        else:
            axes.plot(places, losses, color="#c4c9d1", linewidth=0.8, zorder=1)
    step = math.ceil(len(history) / MOST_GENERATIONS_NAMED)
    names = [each.name for each in history[::step]]
    axes.set_xticks(range(0, len(history), step), names, rotation=45, ha="right", fontsize=8)
    axes.set(ylabel="held-out loss (nats a token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    if named:
        axes.legend(frameon=False, fontsize=8)
    with disk_errors(target):
        FigureCanvasAgg(figure).print_png(str(target))  # type: ignore[no-untyped-call]
