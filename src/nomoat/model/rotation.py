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
    angles = positions.float()[:, None, None] * _steps(rope).to(positions.device)  # (T, 1, dim / 2)
    return angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor


def _steps(rope: Rope) -> Tensor:
    """The angles of one position, (dim / 2,), in float32 and by the very operations of transformers' rope_utils.

    A step that is one unit in its last place away turns the thousandth position by 6e-5: further than all else of a
    layer in float32. So nothing here is done in double precision.
    """
    steps: Tensor = 1.0 / rope.theta ** (torch.arange(0, rope.dim, 2).float() / rope.dim)
    scaled = steps if rope.factors is None else steps / torch.tensor(rope.factors)
    return scaled / rope.scale
