"""The interference of a stack, and its weights, as a picture: kinds of module down, layers across."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nomoat.core.files import disk_errors
from nomoat.formats.weights import Array
from nomoat.stack.interference import Interference

_LAYER = re.compile(r"\.layers\.(\d+)\.")


def draw_heat(found: Interference, target: Path) -> None:
    """Write a PNG: shared input directions, shared output directions, conflicts, and effective rank of the sum.

    Of several pairs at a module the one most in each other's way is drawn.
    """
    values: dict[str, list[tuple[str, float]]] = {
        "same inputs read": [(pair.module, pair.reads) for pair in found.pairs],
        "same outputs written": [(pair.module, pair.writes) for pair in found.pairs],
        "pulling apart": [(pair.module, pair.conflict) for pair in found.pairs],
    }
    ranks = [(each.module, each.effective_rank) for each in found.sums]
    modules = [each.module for each in found.sums]
    panels: list[tuple[str, list[tuple[str, float]], float | None]] = [
        (title, own, 1.0) for title, own in values.items()
    ]
    _draw([*panels, ("effective rank of the sum", ranks, None)], modules, target)


def draw_weights(shares: Mapping[str, Mapping[str, float]], target: Path) -> None:
    """Write a PNG: for each adapter of a stack the share of every module's update that is taken."""
    modules = list(dict.fromkeys(module for own in shares.values() for module in own))
    top = max((share for own in shares.values() for share in own.values()), default=1.0)
    _draw([(f"weight of {name}", list(own.items()), top) for name, own in shares.items()], modules, target)


def _draw(
    panels: Sequence[tuple[str, Sequence[tuple[str, float]], float | None]], modules: Sequence[str], target: Path
) -> None:
    """Panels of (title, values by module, top of the scale) under each other."""
    # Here and not above: matplotlib takes half a second to import, and only this function needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(module.rsplit(".", 1)[-1] for module in modules))
    layers = 1 + max((layer_of(module) for module in modules), default=0)
    size = max(5.0, 2.2 + 0.28 * layers), 1.2 + len(panels) * (0.6 + 0.24 * len(kinds))
    figure = Figure(figsize=size, layout="constrained")
    for place, (title, values, top) in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, place)
        grid = _grid(values, kinds, layers)
        bottom = min(0.0, float(np.nanmin(grid))) if values else 0.0
        image = axes.imshow(grid, aspect="auto", vmin=bottom, vmax=top, cmap="viridis", interpolation="nearest")
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        figure.colorbar(image, ax=axes, shrink=0.9)
    axes.set_xlabel("layer", fontsize=9)
    with disk_errors(target):
        FigureCanvasAgg(figure).print_png(str(target))  # type: ignore[no-untyped-call]


def layer_of(module: str) -> int:
    """The number of a module's layer; 0 for embedding and head."""
    found = _LAYER.search(module)
    return int(found[1]) if found else 0


def _grid(values: Iterable[tuple[str, float]], kinds: list[str], layers: int) -> Array:
    """Values by module as kinds x layers; the highest of several, not-a-number where there is none."""
    grid = np.full((len(kinds), layers), np.nan)
    for module, value in values:
        place = kinds.index(module.rsplit(".", 1)[-1]), layer_of(module)
        grid[place] = np.fmax(grid[place], value)
    return grid
