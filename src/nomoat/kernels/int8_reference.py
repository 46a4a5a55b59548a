"""Eight-bit products in torch operations, for any device: the twin of ``csrc/int8.cpp``.

The integers are the same; floats differ by the order in which kept columns and scaled groups are added.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 64
_SMALLEST = 1e-30  # a group below this counts as zero: 127 / largest must not overflow


def quantize(x: Tensor, group: int, rotated: bool, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Float32 (M, K) -> uint8 (M, depth), each 128 too large, scales (M, G), and the kept columns (M, C)."""
    m, columns = x.shape
    kept_values = x.index_select(1, kept)
    depth = -(-columns // _BLOCK) * _BLOCK
    values = F.pad(x.index_fill(1, kept, 0.0), (0, depth - columns))
    if rotated:
        values = rotate(values)
    n_groups = -(-depth // group)
    groups = F.pad(values, (0, n_groups * group - depth)).view(m, n_groups, group)
    largest = groups.abs().amax(2)
    finite, large = largest.isfinite(), largest >= _SMALLEST
    scales = torch.where(large, largest / (127.0 * 8.0 if rotated else 127.0), 0.0).where(finite, torch.nan)
    by = torch.where(finite & large, 127.0 / largest, 0.0)
    whole = torch.where(finite[:, :, None], groups, 0.0).mul(by[:, :, None]).round()
    bytes = (whole.to(torch.int16) + 128).to(torch.uint8).flatten(1)[:, :depth]
    return bytes.contiguous(), scales, kept_values


def rotate(x: Tensor) -> Tensor:
    """Every block of 64 columns times the Walsh-Hadamard matrix, by sums and differences of neighbours."""
    m, blocks = x.shape[0], x.shape[1] // _BLOCK
    apart, y = 1, x.reshape(m, blocks, _BLOCK)
    while apart < _BLOCK:
        pairs = y.view(m, blocks, _BLOCK // (2 * apart), 2, apart)
        first, second = pairs[:, :, :, 0], pairs[:, :, :, 1]
        y = torch.stack([first + second, first - second], dim=3).flatten(2)
        apart *= 2
    return y.flatten(1)


def product(
    bytes: Tensor,
    row_scales: Tensor,
    kept_values: Tensor,
    weights: Tensor,
    weight_scales: Tensor,
    starts: Tensor,
    kept_weights: Tensor,
    *,
    group: int,
    outputs: int,
    bias: Tensor | None,
    add_to: Tensor | None = None,
) -> Tensor:
    """Sum of the groups' integer products, scaled, and of the kept columns; added to ``add_to`` if given. -> (M, N)."""
    panels, quads, width, _ = weights.shape
    matrix = weights.transpose(1, 2).reshape(panels * width, quads * 4)  # (N up to whole panels, depth)
    y = kept_values @ kept_weights.transpose(1, 2).flatten(0, 1).T
    for g in range(row_scales.shape[1]):
        here = slice(g * group, (g + 1) * group)
        # Exact in float32: a group is at most 512 long, and 512 * 127 * 127 is below 2 ** 24.
        whole = (bytes[:, here].float() - 128) @ matrix[:, here].float().T
        y += whole * (row_scales[:, g, None] * weight_scales[:, g].flatten())
    y = y[:, :outputs] if bias is None else y[:, :outputs] + bias
    return y.contiguous() if add_to is None else add_to.add_(y)
