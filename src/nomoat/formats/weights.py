"""What a file of weights looks like to the rest of the house, whichever format it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


class Weights(Protocol):
    """Named tensors in the blocks they are stored in. ``GgufFile`` and ``SafetensorsFolder`` are two."""

    @property
    def path(self) -> Path: ...

    def names(self) -> list[str]:
        """Return the tensor names in the order of the file."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape in numpy order: a linear layer is (out, in)."""
        ...

    def type(self, name: str) -> str:
        """Return the block type, a key of ``blocks.TYPES`` where it is one that we read ("Q4_K", "BF16")."""
        ...

    def data(self, name: str) -> Bytes:
        """Return the stored bytes, (rows, row_bytes), as a read-only view of the mapped file.

        A row is the last dimension; the ones before it are folded together, and a vector is one row.
        Raises ``ShapeMismatch`` for a name that is not there, ``UnsupportedType`` for a type not in TYPES.
        """
        ...
