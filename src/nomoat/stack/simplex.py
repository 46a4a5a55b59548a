"""A minimum without gradients, within a budget of evaluations.

Nelder and Mead 1965, with the coefficients of Gao and Han 2012 that grow milder with the number of dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from nomoat.formats.weights import Array

Function = Callable[[Array], float]


def descend(function: Function, start: Array, *, step: float, budget: int) -> Generator[tuple[Array, float]]:
    """Yield every point tried with its value; the lowest is the caller's to keep. ``start`` (n,) is tried first."""
    simplex = Simplex(function, budget)
    points = [start, *(start - step * np.eye(len(start))[axis] for axis in range(len(start)))]
    held: list[tuple[Array, float]] = []
    for point in points:
        if simplex.left:
            held.append(simplex.tried(point))
            yield held[-1]
    while simplex.left and len(held) > 1:
        held.sort(key=lambda pair: pair[1])
        before = simplex.left
        held = simplex.moved(held)
        yield from simplex.news
        if simplex.left == before:
            return


class Simplex:
    """Counts evaluations and makes the moves. ``news``: what the last move tried."""

    def __init__(self, function: Function, budget: int) -> None:
        self._function, self.left = function, budget
        self.news: list[tuple[Array, float]] = []

    def tried(self, point: Array) -> tuple[Array, float]:
        """The point with its value."""
        self.left -= 1
        found = point, self._function(point)
        self.news.append(found)
        return found

    def moved(self, held: list[tuple[Array, float]]) -> list[tuple[Array, float]]:
        """One move of a sorted simplex: reflect, then expand, contract or shrink."""
        self.news = []
        n = len(held) - 1
        expansion, contraction, shrinking = 1 + 2 / n, 0.75 - 1 / (2 * n), 1 - 1 / max(n, 2)
        best, second_worst, (worst, worst_value) = held[0], held[-2], held[-1]
        centre = np.mean([point for point, _ in held[:-1]], axis=0)
        reflected = self.tried(centre + (centre - worst))
        if reflected[1] < best[1] and self.left:
            expanded = self.tried(centre + expansion * (centre - worst))
            return [*held[:-1], min(expanded, reflected, key=lambda pair: pair[1])]
        if reflected[1] < second_worst[1] or not self.left:
            return [*held[:-1], min(reflected, held[-1], key=lambda pair: pair[1])]
        toward = reflected[0] if reflected[1] < worst_value else worst
        contracted = self.tried(centre + contraction * (toward - centre))
        if contracted[1] < min(reflected[1], worst_value):
            return [*held[:-1], contracted]
        shrunk = [held[0]]
        for point, value in held[1:]:
            closer = best[0] + shrinking * (point - best[0])
            shrunk.append(self.tried(closer) if self.left else (point, value))
        return shrunk
