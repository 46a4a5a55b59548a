"""Write GGUF files: the header first, then one tensor after the other, never more than a piece of one in memory.

Format: docs/gguf.md in the ggml repository, version 3, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from nomoat.core.errors import FormatError, ShapeMismatch
from nomoat.core.files import atomic_file
from nomoat.formats.blocks import block_type
from nomoat.formats.gguf import DEFAULT_ALIGNMENT, MAGIC, MAX_DIMENSIONS, MAX_NAME_BYTES
from nomoat.formats.weights import Array, Bytes, Floats

VERSION = 3
ALIGNMENT_KEY = "general.alignment"
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY, _U64 = 4, 5, 6, 7, 8, 9, 10

Scalar: TypeAlias = str | bool | int | float
Value: TypeAlias = Scalar | Sequence[Scalar] | Array | bytes


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to be written: ``shape`` in numpy order, ``pieces`` its blocks (rows, row_bytes) in order.

    ``pieces`` is called when the tensor's turn comes, so that a model is never in memory as a whole.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[Bytes]]

    @property
    def size_bytes(self) -> int:
        """Bytes of all blocks. Raises ``ShapeMismatch`` where a row is not whole blocks."""
        return prod(self.shape[:-1]) * block_type(self.type).row_bytes(self.shape[-1])


def float_tensor(name: str, values: Floats) -> PlannedTensor:
    """A tensor written in float32 as it is."""
    rows = np.ascontiguousarray(values, dtype="<f4").view(np.uint8).reshape(-1, 4 * values.shape[-1])
    return PlannedTensor(name, "F32", values.shape, lambda: [rows])


def write_gguf(path: Path, metadata: Mapping[str, Value], tensors: Sequence[PlannedTensor]) -> None:
    """Write ``path`` in one go: ``stream_gguf`` to its end."""
    for _ in stream_gguf(path, metadata, tensors):
        pass


def stream_gguf(path: Path, metadata: Mapping[str, Value], tensors: Sequence[PlannedTensor]) -> Iterator[int]:
    """Write ``path``, whole or not at all, and yield how many bytes of the tensors are written so far.

    The same input gives the same bytes. Of ``metadata`` a whole number becomes a uint32 (int32 where negative, uint64
    where larger), a fraction a float32; lists of them int32 and float32, as llama.cpp's converter writes them.
    ``bytes`` are a type and a value as they stand in another file (``GgufFile.stored_value``). Raises
    ``StorageError``, ``FormatError`` and ``ShapeMismatch``.
    """
    alignment = _alignment(metadata, path)
    _check_names(tensors, path)
    with atomic_file(path) as file:
        file.write(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(_text(key) + encode_value(value))
        file.write(_directory(tensors, alignment))
        done = 0
        for tensor in tensors:
            file.write(bytes(-file.tell() % alignment))
            for written in _write_tensor(file, tensor, path):
                yield done + written
            done += tensor.size_bytes
        file.write(bytes(-file.tell() % alignment))  # readers of the whole file expect the padding at its end too


def _alignment(metadata: Mapping[str, Value], path: Path) -> int:
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if isinstance(alignment, bytes):
        alignment = int.from_bytes(alignment[4:8], "little")
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise FormatError(f"{ALIGNMENT_KEY} cannot be {alignment!r}", file=path)
    return alignment


def encode_value(value: Value) -> bytes:
    """A value with its type in front."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | bool | int | float):
        number = _type_of(value)
        return struct.pack("<I", number) + _bare(value, number)
    values: list[Scalar] = value.tolist() if isinstance(value, np.ndarray) else list(value)
    return struct.pack("<I", _ARRAY) + _array(values)


def _type_of(value: Scalar) -> int:
    if isinstance(value, str):
        return _STRING
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, float):
        return _F32
    return _I32 if value < 0 else _U32 if value < 1 << 32 else _U64


def _array(values: list[Scalar]) -> bytes:
    number = _type_of(values[0]) if values else _I32
    if any(isinstance(value, float) for value in values):
        number = _F32
    number = _I32 if number in (_U32, _U64) else number
    return struct.pack("<IQ", number, len(values)) + b"".join(_bare(value, number) for value in values)


def _bare(value: Scalar, number: int) -> bytes:
    if isinstance(value, str):
        return _text(value)
    layout = {_U32: "<I", _I32: "<i", _U64: "<Q", _F32: "<f", _BOOL: "<B"}[number]
    return struct.pack(layout, value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _check_names(tensors: Sequence[PlannedTensor], path: Path) -> None:
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise FormatError("two tensors would have the same name", file=path)
    for tensor in tensors:
        if len(tensor.name.encode()) > MAX_NAME_BYTES or not 1 <= len(tensor.shape) <= MAX_DIMENSIONS:
            raise FormatError(f"tensor {tensor.name!r:.80} with shape {tensor.shape} cannot be written", file=path)


def _directory(tensors: Sequence[PlannedTensor], alignment: int) -> bytes:
    entries, offset = [], 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        place = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, block_type(tensor.type).ggml_id, offset)
        entries.append(_text(tensor.name) + place)
        offset += -(-tensor.size_bytes // alignment) * alignment
    return b"".join(entries)


def _write_tensor(file: BinaryIO, tensor: PlannedTensor, path: Path) -> Iterator[int]:
    """Write its pieces; yield the bytes so far."""
    written = 0
    for piece in tensor.pieces():
        written += file.write(np.ascontiguousarray(piece).data)
        yield written
    if written != tensor.size_bytes:
        raise ShapeMismatch(
            f"tensor {tensor.name!r}: {written} bytes of {tensor.type} {tensor.shape}, which takes {tensor.size_bytes}",
            file=path,
        )
