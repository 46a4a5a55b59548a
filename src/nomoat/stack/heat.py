"""The interference of a stack as a picture: kinds of module down, layers across."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    # Here and not above: matplotlib takes half a second to import, and only this function needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modules = [each.module for each in found.sums]
    kinds = list(dict.fromkeys(module.rsplit(".", 1)[-1] for module in modules))
    layers = 1 + max((layer_of(module) for module in modules), default=0)
    panels: list[tuple[str, Array, float | None]] = [
        ("same inputs read", _grid([(pair.module, pair.reads) for pair in found.pairs], kinds, layers), 1.0),
        ("same outputs written", _grid([(pair.module, pair.writes) for pair in found.pairs], kinds, layers), 1.0),
        ("pulling apart", _grid([(pair.module, pair.conflict) for pair in found.pairs], kinds, layers), 1.0),
        (
            "effective rank of the sum",
            _grid([(each.module, each.effective_rank) for each in found.sums], kinds, layers),
            None,
        ),
    ]
    figure = Figure(figsize=(max(5.0, 2.2 + 0.28 * layers), 1.2 + 4 * (0.6 + 0.24 * len(kinds))), layout="constrained")
    for place, (title, grid, top) in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, place)
        image = axes.imshow(grid, aspect="auto", vmin=0.0, vmax=top, cmap="viridis", interpolation="nearest")
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
