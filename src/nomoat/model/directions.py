"""The strongest directions of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

_OVERSAMPLING, _POWER_STEPS = 16, 4


def top_directions(matrix: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The first ``rank`` singular triplets: U (out, rank), s (rank,), V.T (rank, in) of ``matrix`` (out, in).

    Randomised SVD (Halko et al. 2011, algorithm 4.4) with four power steps.
    """
    width = min(rank + _OVERSAMPLING, *matrix.shape)
    start = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype)
    probe, _ = torch.linalg.qr(matrix @ start)
    for _ in range(_POWER_STEPS):
        back, _ = torch.linalg.qr(matrix.T @ probe)
        probe, _ = torch.linalg.qr(matrix @ back)
    u, s, vt = torch.linalg.svd(probe.T @ matrix, full_matrices=False)
    return probe @ u[:, :rank], s[:rank], vt[:rank]
