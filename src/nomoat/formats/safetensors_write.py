"""Writing a ``.safetensors`` file tensor by tensor, so that a model larger than memory can be written.

Format: the README of github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.errors import UnsupportedType
from nomoat.core.files import disk_errors
from nomoat.formats.safetensors_file import METADATA
from nomoat.formats.weights import Array, Bytes, Floats

ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
Shape = tuple[int, ...]


def to_bytes(values: Floats, type: str) -> Bytes:
    """Float32 values as F32, F16 or BF16 bytes, rounded to nearest, ties to even. Raises ``UnsupportedType``."""
    plain = np.ascontiguousarray(values, dtype="<f4")
    if type == "F32":
        return plain.reshape(-1).view(np.uint8)
    if type == "F16":
        half: Bytes = plain.astype("<f2").reshape(-1).view(np.uint8)
        return half
    if type != "BF16":
        raise UnsupportedType(f"weights cannot be written as {type}", hint="F32, F16 or BF16")
    bits = plain.view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # finite values only: a NaN's bits could wrap
    short: Bytes = rounded.astype("<u2").reshape(-1).view(np.uint8)
    return short


def from_bytes(data: Bytes, type: str) -> Floats:
    """What ``to_bytes`` rounded to, as float32. One dimension."""
    if type == "F32":
        return data.view("<f4")
    if type == "F16":
        return data.view("<f2").astype(np.float32)
    wide: Floats = (data.view("<u2").astype("<u4") << 16).view("<f4")
    return wide


def write_safetensors(
    target: Path,
    tensors: Mapping[str, tuple[str, Shape]],
    produce: Callable[[str], Array],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``tensors`` (type and shape by name), asking ``produce`` for each one's bytes in turn.

    The file exists whole or not at all. Raises ``StorageError``; ``ValueError`` where the bytes are not as many as
    type and shape say.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, (type, shape) in tensors.items():
        size = prod(shape) * ITEM_SIZES[type]
        header[name] = {"dtype": type, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with disk_errors(target):
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)
                for name, (type, shape) in tensors.items():
                    data = np.ascontiguousarray(produce(name)).reshape(-1).view(np.uint8)
                    if data.nbytes != prod(shape) * ITEM_SIZES[type]:
                        raise ValueError(f"{name}: {data.nbytes} bytes for {type} {shape}")
                    file.write(data.data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)
