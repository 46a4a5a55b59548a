"""The angles of rotary embeddings at the positions of one batch."""

from __future__ import annotations

import torch
from torch import Tensor

from nomoat.kernels.glue import rotary
from nomoat.model.config import Rope


class Rotation:
    """Cosine and sine of the positions of one batch, for each kind of rotary embedding it needs."""

    def __init__(self, positions: Tensor, ropes: set[Rope]) -> None:
        self._angles = {rope: _angles(positions, rope) for rope in ropes}

    def __call__(self, x: Tensor, rope: Rope | None) -> Tensor:
        """(T, heads, C) -> (T, heads, C)."""
        return x if rope is None else rotary(x, *self._angles[rope])

    def angles(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosine and sine, (T, 1, half) each."""
        return self._angles[rope]


def _angles(positions: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
    steps = torch.tensor(rope.frequencies(), dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None, None] * steps  # (T, 1, dim / 2)
    return angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor
