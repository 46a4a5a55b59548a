"""Random blocks to multiply with, and how far a product is off."""

from __future__ import annotations

import torch
from torch import Tensor

from nomoat.formats.blocks import TYPES


def stored(type: str, rows: int, cols: int) -> Tensor:
    """Random blocks whose weights are ordinary numbers."""
    kind, generator = TYPES[type], torch.Generator().manual_seed(rows)
    if type in ("F32", "F16", "BF16"):
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[type]
        return torch.randn(rows, cols, generator=generator).to(dtype).view(torch.uint8)
    return torch.randint(0, 60, (rows, cols // kind.block_size * kind.type_size), generator=generator).byte()


def error(got: Tensor, x: Tensor, weights: Tensor) -> float:
    """The largest error, as a share of the sum of the sizes of what is added."""
    x, weights = x.double(), weights.double()
    return float(((got - x @ weights.T).abs() / (x.abs() @ weights.abs().T)).max())
