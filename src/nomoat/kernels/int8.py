"""Products with a frozen matrix in eight-bit integers, for training steps: fast and not exact.

Letters: M rows, K columns (summed over) in G groups, N outputs in P panels of 64, C columns that stay float32.
``csrc/int8.cpp`` describes the scheme: blocks of 64 columns are rotated by a Walsh-Hadamard matrix, each group of
``GROUP`` has a scale in every row, and the columns with the largest activations are left out and kept in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import int8_native, int8_reference, native

BLOCK: Final = 64  # columns that are rotated together
PANEL: Final = 64  # outputs that lie side by side
GROUP: Final = 64  # columns under one scale; a multiple of BLOCK. With 128, 1 - cosine is a third larger on SmolLM2
_CHUNK: Final = 1024  # rows of the matrix that are float32 at once while it is packed; a multiple of GROUP and PANEL


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How rows become bytes. ``kept`` is int64 (C,), rising: the columns that stay float32."""

    columns: int
    kept: Tensor
    group: int = GROUP
    rotated: bool = True

    @property
    def depth(self) -> int:
        """Columns up to a whole number of blocks."""
        return -(-self.columns // BLOCK) * BLOCK

    @property
    def groups(self) -> int:
        return -(-self.depth // self.group)


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Quantized rows: ``bytes`` uint8 (M, depth), each 128 too large; ``scales`` (M, G); ``kept_values`` (M, C)."""

    bytes: Tensor
    scales: Tensor
    kept_values: Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A matrix of N outputs.

    ``weights`` int8 (P, depth / 4, 64, 4), ``scales`` float32 and ``starts`` int32 (P, G, 64).
    ``starts`` is -128 times the sum of a group's weights; ``kept_weights`` is float32 (P, C, 64).
    """

    recipe: Recipe
    outputs: int
    weights: Tensor
    scales: Tensor
    starts: Tensor
    kept_weights: Tensor

    @property
    def size_bytes(self) -> int:
        tensors = (self.weights, self.scales, self.starts, self.kept_weights)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def quantize(x: Tensor, recipe: Recipe) -> Rows:
    """Float32 (M, K) as bytes. A group that holds infinities or NaN becomes NaN in every product."""
    if x.dtype != torch.float32 or x.ndim != 2 or x.shape[1] != recipe.columns:
        raise ShapeMismatch(f"rows must be float32 (M, {recipe.columns}), not {x.dtype} {tuple(x.shape)}")
    if x.is_cpu and native.available():
        return Rows(*int8_native.quantize(x, recipe.group, recipe.rotated, recipe.kept))
    return Rows(*int8_reference.quantize(x, recipe.group, recipe.rotated, recipe.kept))


def product(rows: Rows, packed: Packed, bias: Tensor | None = None, add_to: Tensor | None = None) -> Tensor:
    """``x @ W.T + bias`` as float32 (M, N), for rows quantized with the recipe of ``packed``.

    With ``add_to`` (M, N) it is added to that, in place.
    """
    compiled = rows.bytes.is_cpu and native.available()
    multiply = int8_native.product if compiled else int8_reference.product
    return multiply(
        rows.bytes,
        rows.scales,
        rows.kept_values,
        packed.weights,
        packed.scales,
        packed.starts,
        packed.kept_weights,
        group=packed.recipe.group,
        outputs=packed.outputs,
        bias=bias,
        add_to=add_to,
    )


def pack(matrix: Tensor, recipe: Recipe) -> Packed:
    """Pack float32 (N, K) as the right side of ``product``."""
    packed = _empty(matrix.shape[0], recipe)
    for start in range(0, matrix.shape[0], _CHUNK):
        _fill_outputs(packed, start, matrix[start : start + _CHUNK])
    return packed


class PackedInt8:
    """A frozen matrix (out, in) packed once for products both ways, or with ``there=False`` for the way back alone.

    ``expand(slice)`` gives rows of it as float32, valid until the next call; ``kept`` are columns whose activations are
    outliers. The way back has a packing of its own, since scales and rotations follow the dimension summed over.
    """

    def __init__(
        self,
        expand: Callable[[slice], Tensor],
        shape: tuple[int, int],
        kept: Tensor,
        *,
        group: int = GROUP,
        there: bool = True,
    ) -> None:
        outputs, columns = shape
        self._there = _empty(outputs if there else 0, Recipe(columns, kept, group))
        self._back = _empty(columns, Recipe(outputs, kept.new_empty(0), group))
        for start in range(0, outputs, _CHUNK):
            rows = expand(slice(start, min(start + _CHUNK, outputs)))
            if there:
                _fill_outputs(self._there, start, rows)
            _fill_columns(self._back, start, rows.T.contiguous())

    @property
    def recipe(self) -> Recipe:
        """How the rows of ``product`` are quantized."""
        return self._there.recipe

    @property
    def size_bytes(self) -> int:
        return self._there.size_bytes + self._back.size_bytes

    def quantize(self, x: Tensor) -> Rows:
        """Rows for ``product``, here or of another matrix with this one's recipe. (T, in)."""
        return quantize(x, self._there.recipe)

    def product(self, x: Tensor | Rows, bias: Tensor | None = None) -> Tensor:
        """``x @ W.T + bias``. (T, in) -> (T, out)."""
        return product(x if isinstance(x, Rows) else self.quantize(x), self._there, bias)

    def product_transposed(self, g: Tensor, add_to: Tensor | None = None) -> Tensor:
        """``g @ W``, added to ``add_to``, in place, if given. (T, out) -> (T, in)."""
        return product(quantize(g, self._back.recipe), self._back, add_to=add_to)


def _empty(outputs: int, recipe: Recipe) -> Packed:
    panels = -(-outputs // PANEL)
    return Packed(
        recipe,
        outputs,
        torch.zeros(panels, recipe.depth // 4, PANEL, 4, dtype=torch.int8),
        torch.zeros(panels, recipe.groups, PANEL),
        torch.zeros(panels, recipe.groups, PANEL, dtype=torch.int32),
        torch.zeros(panels, recipe.kept.shape[0], PANEL),
    )


def _fill_outputs(packed: Packed, start: int, rows: Tensor) -> None:
    """Outputs from ``start``, a multiple of PANEL, on: all columns of them, float32 (n, K)."""
    first = start // PANEL
    here = slice(first, first + -(-rows.shape[0] // PANEL))
    _fill(packed, here, 0, quantize(rows, packed.recipe))
    kept = rows.index_select(1, packed.recipe.kept)  # (n, C)
    packed.kept_weights[here] = _panels(kept).transpose(1, 2)


def _fill_columns(packed: Packed, start: int, rows: Tensor) -> None:
    """Columns from ``start``, a multiple of the group, on: of all outputs, float32 (N, n)."""
    recipe = dataclasses.replace(packed.recipe, columns=rows.shape[1])
    _fill(packed, slice(None), start, quantize(rows, recipe))


def _fill(packed: Packed, panels: slice, column: int, rows: Rows) -> None:
    signed = _panels(rows.bytes.bitwise_xor(128).view(torch.int8))  # (P, 64, depth)
    n_panels, _, depth = signed.shape
    at, n = column // 4, depth // 4
    packed.weights[panels, at : at + n] = signed.view(n_panels, PANEL, n, 4).transpose(1, 2)
    first, n_groups = column // packed.recipe.group, rows.scales.shape[1]
    groups = slice(first, first + n_groups)
    packed.scales[panels, groups] = _panels(rows.scales).transpose(1, 2)
    whole = torch.nn.functional.pad(signed, (0, n_groups * packed.recipe.group - depth))
    sums = whole.view(n_panels, PANEL, n_groups, -1).sum(3, dtype=torch.int32)
    packed.starts[panels, groups] = sums.transpose(1, 2).mul(-128)


def _panels(x: Tensor) -> Tensor:
    """(n, k) -> (P, 64, k), with rows of zeros at the end."""
    padded = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[0] % PANEL))
    return padded.view(padded.shape[0] // PANEL, PANEL, x.shape[1])
