"""One matrix and what a stack adds to it, folded together and taken apart again.

``W + update`` is rounded once, to the type it is stored in. Taking the update away again gives W back but where the
sum lies in another binade than W: there bits of W are lost. Of float32 matrices those entries are kept aside, so that
the way back is exact to the bit; a 16-bit sum has lost more than it is worth to keep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from nomoat.formats.safetensors_write import from_bytes, to_bytes
from nomoat.formats.weights import Array, Bytes, Floats
from nomoat.model.adapters import Adapter
from nomoat.model.delta import with_biases
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.update import Update, concatenated, update_of

_ROWS_AT_ONCE = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Rounding:
    """What storing cost: squared norms of the update and of the error, summed over entries."""

    update: float = 0.0
    error: float = 0.0

    def __add__(self, other: Rounding) -> Rounding:
        return Rounding(self.update + other.update, self.error + other.error)

    @property
    def share(self) -> float:
        """The error's norm over the update's."""
        return float((self.error / self.update) ** 0.5) if self.update > 0 else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Merged:
    """A merged matrix as bytes; ``places`` (flat) and ``values`` are the entries that subtraction does not restore."""

    data: Bytes
    rounding: Rounding
    places: Array
    values: Floats


def stored_update(
    worn: Sequence[tuple[Adapter, float]], module: str, weight: FrozenWeight, *, by_token: bool
) -> Update:
    """What the stack adds to a module, in the orientation of the stored matrix: an embedding's is (V, D)."""
    parts = [
        update_of(adapter, module, weight).scaled(strength)
        for adapter, strength in worn
        if module in adapter.deltas and strength != 0.0
    ]
    total = concatenated(parts)
    return Update(total.lora_B.T.contiguous(), total.lora_A.T.contiguous()) if by_token else total


def stacked_biases(worn: Sequence[tuple[Adapter, float]]) -> dict[str, Tensor]:
    """What the stack adds to biases, (out,), by module."""
    modules = dict.fromkeys(module for adapter, _ in worn for module in adapter.deltas)
    found = {module: with_biases(None, worn, module) for module in modules}
    return {module: bias.detach() for module, bias in found.items() if bias is not None}


def merge_weight(weight: Floats, update: Update, type: str) -> Merged:
    """``weight`` (out, in) plus the update, rounded once to ``type``."""
    data, places, values, rounding = [], [], [], Rounding()
    for rows, added in _in_rows(update):
        base = weight[rows].astype(np.float64)
        exact = base + added
        part = to_bytes(exact.astype(np.float32), type)
        stored = from_bytes(part, type).reshape(exact.shape)
        rounding += Rounding(float(np.square(added).sum()), float(np.square(stored - exact).sum()))
        data.append(part)
        if type == "F32":
            wrong = np.flatnonzero((stored.astype(np.float64) - added).astype(np.float32) != weight[rows])
            places.append(wrong + rows.start * weight.shape[1])
            values.append(weight[rows].reshape(-1)[wrong])
    nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    kept = (np.concatenate(places), np.concatenate(values)) if places else nothing
    return Merged(np.concatenate(data), rounding, kept[0].astype(np.int64), kept[1].astype(np.float32))


def unmerge_weight(weight: Floats, update: Update, places: Array, values: Floats) -> Floats:
    """``weight`` (out, in) without the update; entries that were kept aside are put back."""
    restored = np.empty_like(weight)
    for rows, added in _in_rows(update):
        restored[rows] = (weight[rows].astype(np.float64) - added).astype(np.float32)
    restored.reshape(-1)[places] = values
    return restored


def _in_rows(update: Update) -> Iterator[tuple[slice, Array]]:
    """The update in double precision, a few rows at a time."""
    a = update.lora_A.double()
    for start in range(0, update.shape[0], _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, update.shape[0]))
        product: Tensor = update.lora_B[rows].double() @ a
        yield rows, product.detach().numpy()


def as_floats(data: Bytes, type: str, shape: tuple[int, ...]) -> Floats:
    """A stored F32, F16 or BF16 matrix as float32."""
    return np.ascontiguousarray(from_bytes(np.ascontiguousarray(data).reshape(-1), type)).reshape(shape)
