"""Three ways to leave out entries of an update, each a pure function of the matrix and a generator."""

from __future__ import annotations

import torch
from torch import Tensor

from nomoat.core.errors import UsageError


def largest(matrix: Tensor, density: float) -> Tensor:
    """Keep the share ``density`` of entries that are largest in magnitude, one at least, as they are.

    TIES, Yadav et al. 2023 (arXiv 2306.01708), section 4.2, "trim".
    """
    count = max(1, int(density * matrix.numel()))
    if count >= matrix.numel():
        return matrix
    places = matrix.abs().flatten().topk(count, sorted=False).indices
    kept = torch.zeros_like(matrix).flatten()
    kept[places] = matrix.flatten()[places]
    return kept.view_as(matrix)


def at_random(matrix: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Keep each entry with probability ``density``, divided by it, so that the mean does not move.

    DARE, Yu et al. 2023 (arXiv 2311.03099), section 3.2.
    """
    if density >= 1.0:
        return matrix
    kept = torch.rand(matrix.shape, generator=generator) < density
    return matrix * kept / density


def by_rank(matrix: Tensor, density: float, epsilon: float, generator: torch.Generator) -> Tensor:
    """Keep larger entries of each row with higher probability, each divided by its own.

    DELLA's MAGPRUNE, Deep et al. 2024 (arXiv 2406.11617), section 3.1. The probability rises by the entry's rank in
    its row from ``density - epsilon`` to ``density + epsilon``. Raises ``UsageError`` where that leaves 0 to 1.
    """
    if density >= 1.0:
        return matrix
    if not 0.0 < density - epsilon <= density + epsilon < 1.0:
        raise UsageError(
            f"density {density:g} and epsilon {epsilon:g} give probabilities outside of 0 to 1",
            hint="take a smaller --epsilon",
        )
    probability = keep_probability(matrix, density, epsilon)
    kept = torch.rand(matrix.shape, generator=generator) < probability
    return matrix * kept / probability


def keep_probability(matrix: Tensor, density: float, epsilon: float) -> Tensor:
    """Of every entry, by its magnitude's rank in its row."""
    ranks = matrix.abs().argsort(dim=1, stable=True).argsort(dim=1).to(matrix.dtype)
    return (density - epsilon) + ranks / max(matrix.shape[1] - 1, 1) * (2 * epsilon)
