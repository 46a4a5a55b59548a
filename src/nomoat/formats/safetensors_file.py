"""One ``.safetensors`` file, mapped. Its header is checked against the file before any of it is used.

Format: the README of github.com/huggingface/safetensors, "Format". Eight bytes of length, a JSON object of that
length, then the tensors end to end.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.errors import BadHeader, NotFound, ShapeMismatch, UnsupportedType
from nomoat.core.files import disk_errors
from nomoat.formats.blocks import TYPES
from nomoat.formats.bounded_json import parse_object
from nomoat.formats.weights import Array, Bytes

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_DIMENSIONS = 16
METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")

# Bytes of one element. The floats up to 32 bits are read, the others are known so that files that hold some can be.
_ITEM_SIZES = {
    "F32": 4, "F16": 2, "BF16": 2, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1,
    "I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """One entry of the header; ``offset`` from the start of the file."""

    type: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class SafetensorsFile:
    """An open file. ``metadata`` is the free text that its writer put into the header."""

    path: Path
    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    buffer: mmap.mmap

    @classmethod
    def open(cls, path: Path) -> SafetensorsFile:
        """Map ``path`` and check its header. Raises ``NotFound``, ``BadHeader``, ``UnsupportedType``."""
        if not path.is_file():
            raise NotFound(f"no such file: {path}")
        with disk_errors(path), path.open("rb") as file:
            if path.stat().st_size < _LENGTH.size:
                raise BadHeader("too short to be a safetensors file", file=path)
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (size,) = _LENGTH.unpack_from(buffer)
        if size > min(MAX_HEADER_BYTES, len(buffer) - _LENGTH.size):
            raise BadHeader(f"claims a header of {size} bytes in a file of {len(buffer)}", file=path)
        start = _LENGTH.size + size
        header = parse_object(buffer[_LENGTH.size : start], path)
        metadata = _check_metadata(header.pop(METADATA, {}), path)
        tensors = {name: _entry(name, value, start, len(buffer), path) for name, value in header.items()}
        _check_cover(tensors, start, len(buffer), path)
        return cls(path, tensors, metadata, buffer)

    def data(self, name: str) -> Bytes:
        """Return the bytes, uint8 (rows, row_bytes), a read-only view of the file; a vector is one row.

        Raises ``UnsupportedType`` for anything but F32, F16 and BF16, ``ShapeMismatch`` for an empty tensor.
        """
        tensor = self.tensors[name]
        if tensor.type not in TYPES:
            raise UnsupportedType(
                f"tensor {name!r} is stored as {tensor.type}; nomoat reads F32, F16 and BF16",
                file=self.path,
                hint="take the unquantized model, or a GGUF file of it",
            )
        if tensor.size_bytes == 0:
            raise ShapeMismatch(f"tensor {name!r} is empty: {tensor.shape!r:.60}", file=self.path)
        view = np.frombuffer(self.buffer, np.uint8, tensor.size_bytes, tensor.offset)
        rows, row_bytes = prod(tensor.shape[:-1]), _ITEM_SIZES[tensor.type] * prod(tensor.shape[-1:])
        return view.reshape(rows, row_bytes)


def encode(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file of float32 ``tensors``. The same tensors always give the same bytes."""
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    parts, at = [], 0
    for name in sorted(tensors):
        part = np.ascontiguousarray(tensors[name], dtype="<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    return _encode_header(header) + b"".join(parts)


def _encode_header(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    return _LENGTH.pack(len(text)) + text


def _check_metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadHeader(f"{METADATA} is not a map of text to text", file=path)
    return value


def _entry(name: str, value: Any, start: int, end: int, path: Path) -> StoredTensor:
    """Check one tensor's type, shape and place. Python's integers do not overflow."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadHeader(f"tensor {name!r} has no dtype, shape and data_offsets", file=path)
    kind, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(kind, str) or kind not in _ITEM_SIZES:
        raise UnsupportedType(f"tensor {name!r} has the unknown type {kind!r:.40}", file=path)
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise BadHeader(f"tensor {name!r} has the shape {shape!r:.60}", file=path)
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise BadHeader(f"tensor {name!r} has the data_offsets {offsets!r:.60}", file=path)
    size = prod(shape) * _ITEM_SIZES[kind]
    if offsets[1] - offsets[0] != size or start + offsets[1] > end:
        raise BadHeader(
            f"tensor {name!r}: {kind} {shape!r:.60} at {offsets!r:.60} does not fit a file of {end} bytes",
            file=path,
            hint="a download that was cut short is fetched again",
        )
    return StoredTensor(kind, tuple(shape), start + offsets[0], size)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_cover(tensors: dict[str, StoredTensor], start: int, end: int, path: Path) -> None:
    """The format leaves no gaps: each tensor begins where the one before it ends."""
    at = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size_bytes)):
        if tensor.offset != at:
            raise BadHeader(f"tensor {name!r} begins at byte {tensor.offset}, not at {at}", file=path)
        at += tensor.size_bytes
    if at != end:
        raise BadHeader(f"the tensors end at byte {at} of {end}", file=path)
