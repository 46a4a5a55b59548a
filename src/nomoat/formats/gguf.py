"""GGUF, the single-file format of llama.cpp: metadata, a tensor directory, and the blocks, which are mapped.

Format: docs/gguf.md in the ggml repository. Versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.errors import BadHeader, NotFound, ShapeMismatch, UnsupportedType
from nomoat.core.files import disk_errors
from nomoat.formats.blocks import TYPES, BlockType
from nomoat.formats.cursor import Cursor
from nomoat.formats.gguf_metadata import read_metadata
from nomoat.formats.weights import Bytes

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20
MAX_TENSORS = 1 << 17
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 4
MAX_HEADER_BYTES = 1 << 29

_U32 = struct.Struct("<I")

# Not expanded, but of known size, so that a file that holds some can still be checked and listed.
_LISTED_ONLY = (
    BlockType("Q8_1", 9, 32, 36),
    BlockType("Q8_K", 15, 256, 292),
    BlockType("IQ2_XXS", 16, 256, 66),
    BlockType("IQ2_XS", 17, 256, 74),
    BlockType("IQ3_XXS", 18, 256, 98),
    BlockType("IQ1_S", 19, 256, 50),
    BlockType("IQ3_S", 21, 256, 110),
    BlockType("IQ2_S", 22, 256, 82),
    BlockType("I8", 24, 1, 1),
    BlockType("I16", 25, 1, 2),
    BlockType("I32", 26, 1, 4),
    BlockType("I64", 27, 1, 8),
    BlockType("F64", 28, 1, 8),
    BlockType("IQ1_M", 29, 256, 56),
    BlockType("TQ1_0", 34, 256, 54),
    BlockType("TQ2_0", 35, 256, 66),
    BlockType("MXFP4", 39, 32, 17),
)
_BY_ID: dict[int, BlockType] = {row.ggml_id: row for row in (*TYPES.values(), *_LISTED_ONLY)}


@dataclass(frozen=True)
class GgufTensor:
    """One directory entry; ``shape`` in numpy order, (out, in); ``offset`` from the start of the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class GgufFile:
    """An open GGUF file. ``metadata`` and ``places`` as ``gguf_metadata.read_metadata`` gives them. A ``Weights``."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    buffer: mmap.mmap
    places: dict[str, slice]

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Map ``path`` and check its whole header.

        Raises ``NotFound``; ``BadHeader`` for what cannot be true; ``UnsupportedType`` for a big-endian file,
        one in parts, another version, and tensor types whose size is not known.
        """
        cursor = _mapped(path)
        _check_version(cursor)
        n_tensors, n_keys = cursor.u64("the tensor count"), cursor.u64("the key count")
        metadata, places = read_metadata(cursor, n_keys)
        parts = metadata.get("split.count", 1)
        if isinstance(parts, int) and parts > 1:
            raise UnsupportedType(
                f"one of {parts} parts of a model", file=path, hint="join them: llama-gguf-split --merge"
            )
        return cls(path, metadata, _read_directory(cursor, n_tensors, metadata), cursor.buffer, places)

    def names(self) -> list[str]:
        """Return the tensor names in the order of the file."""
        return list(self.tensors)

    def stored_value(self, key: str) -> bytes:
        """Return the type and value of a metadata key as they stand in the file. Raises ``KeyError``."""
        return bytes(self.buffer[self.places[key]])

    def tensor(self, name: str) -> GgufTensor:
        """Return the directory entry; raises ``ShapeMismatch`` if there is none of that name."""
        found = self.tensors.get(name)
        if found is None:
            raise ShapeMismatch(f"tensor {name!r} is missing", file=self.path)
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape in numpy order, (out, in) for a linear layer."""
        return self.tensor(name).shape

    def type(self, name: str) -> str:
        """Return the block type, such as "Q4_K"."""
        return self.tensor(name).type

    def data(self, name: str) -> Bytes:
        """Return the blocks, uint8 (rows, row_bytes), a read-only view of the file; a vector is one row.

        The file must not be shortened while it is in use: reading a page that is gone ends the process.
        Raises ``UnsupportedType`` for a type that ``blocks.dequantize`` does not know.
        """
        tensor = self.tensor(name)
        if tensor.type not in TYPES:
            raise UnsupportedType(
                f"tensor {name!r} is stored as {tensor.type}, which nomoat does not read",
                file=self.path,
                hint="take another quantization of the model: Q4_K_M and Q8_0 always work",
            )
        rows = prod(tensor.shape[:-1])
        view = np.frombuffer(self.buffer, np.uint8, tensor.size_bytes, tensor.offset)
        return view.reshape(rows, tensor.size_bytes // rows)


def _mapped(path: Path) -> Cursor:
    """Map the file and put the cursor behind its magic; it will not pass ``MAX_HEADER_BYTES``."""
    if not path.is_file():
        raise NotFound(f"no such file: {path}", hint="nomoat ls lists the models you have")
    with disk_errors(path), path.open("rb") as file:
        size = path.stat().st_size
        if size < 24 or file.read(4) != MAGIC:
            raise BadHeader("not a GGUF file: it does not begin with GGUF", file=path)
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = Cursor(buffer, min(len(buffer), MAX_HEADER_BYTES), path)
    cursor.at = len(MAGIC)
    return cursor


def _check_version(cursor: Cursor) -> None:
    version = int(cursor.unpack(_U32, "the version"))
    if version in VERSIONS:
        return
    if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        raise UnsupportedType(
            "a big-endian GGUF file", file=cursor.path, hint="convert it: gguf-convert-endian FILE little"
        )
    raise UnsupportedType(
        f"GGUF version {version}; nomoat reads {' and '.join(map(str, VERSIONS))}",
        file=cursor.path,
        hint="convert the model again with a current llama.cpp",
    )


def _read_directory(cursor: Cursor, n: int, metadata: dict[str, Any]) -> dict[str, GgufTensor]:
    """Read ``n`` entries and check that each lies inside the file and none on another."""
    if n > MAX_TENSORS:
        raise cursor.bad(f"claims {n} tensors, more than the {MAX_TENSORS} allowed")
    cursor.need(n * 32, f"{n} tensor entries")  # the shortest: empty name, one dimension
    entries: dict[str, tuple[BlockType, tuple[int, ...], int]] = {}
    for _ in range(n):
        name = cursor.string("a tensor name", MAX_NAME_BYTES)
        if name in entries:
            raise cursor.bad(f"tensor {name!r} occurs twice")
        entries[name] = _read_entry(cursor, name)
    alignment = _alignment(cursor, metadata)
    start = -(-cursor.at // alignment) * alignment
    tensors = {name: _place(cursor, name, entry, start, alignment) for name, entry in entries.items()}
    _check_overlap(cursor, tensors)
    return tensors


def _read_entry(cursor: Cursor, name: str) -> tuple[BlockType, tuple[int, ...], int]:
    """Read dimensions, type and offset (from the start of the data) of one tensor."""
    n_dims = int(cursor.unpack(_U32, f"the dimensions of {name!r}"))
    if not 1 <= n_dims <= MAX_DIMENSIONS:
        raise cursor.bad(f"tensor {name!r} claims {n_dims} dimensions")
    dims = [cursor.u64(f"a dimension of {name!r}") for _ in range(n_dims)]
    if min(dims) < 1:
        raise cursor.bad(f"tensor {name!r} has a dimension of 0")
    type_id = int(cursor.unpack(_U32, f"the type of {name!r}"))
    kind = _BY_ID.get(type_id)
    if kind is None:
        raise UnsupportedType(
            f"tensor {name!r} has the type number {type_id}, whose size nomoat does not know",
            file=cursor.path,
            hint="take another quantization of the model: Q4_K_M and Q8_0 always work",
        )
    if dims[0] % kind.block_size:
        raise cursor.bad(f"tensor {name!r}: rows of {dims[0]} weights are not whole {kind.name} blocks")
    return kind, tuple(reversed(dims)), cursor.u64(f"the offset of {name!r}")


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or not 1 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise cursor.bad(f"general.alignment is {value!r:.60}, not a power of two up to {MAX_ALIGNMENT}")
    return value


def _place(
    cursor: Cursor, name: str, entry: tuple[BlockType, tuple[int, ...], int], start: int, alignment: int
) -> GgufTensor:
    kind, shape, relative = entry
    size = prod(shape) // kind.block_size * kind.type_size  # Python's integers: nothing overflows
    if relative % alignment:
        raise cursor.bad(f"tensor {name!r} begins at {relative}, not a multiple of {alignment}")
    if start + relative + size > len(cursor.buffer):
        raise cursor.bad(
            f"tensor {name!r} takes bytes {start + relative} to {start + relative + size} of a file of"
            f" {len(cursor.buffer)}"
        )
    return GgufTensor(name, kind.name, shape, start + relative, size)


def _check_overlap(cursor: Cursor, tensors: dict[str, GgufTensor]) -> None:
    end, last = 0, ""
    for tensor in sorted(tensors.values(), key=lambda t: t.offset):
        if tensor.offset < end:
            raise cursor.bad(f"tensors {last!r} and {tensor.name!r} lie on each other")
        end, last = tensor.offset + tensor.size_bytes, tensor.name
