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
    """In double precision: a float32 angle of position 1,000 is wrong by up to 3e-5, more than all else in a layer."""
    steps = torch.tensor(rope.frequencies(), dtype=torch.float64)
    angles = positions.cpu()[:, None, None] * steps  # (T, 1, dim / 2); not every device has float64
    factor, device = rope.attention_factor, positions.device
    return (angles.cos() * factor).float().to(device), (angles.sin() * factor).float().to(device)
