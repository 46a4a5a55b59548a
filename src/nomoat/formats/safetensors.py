"""The weights of a Hugging Face folder: one ``model.safetensors``, or an index and its shards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.core.errors import BadHeader, FormatError, NotFound, ShapeMismatch, UnsupportedType
from nomoat.formats.bounded_json import read_object
from nomoat.formats.safetensors_file import SafetensorsFile
from nomoat.formats.weights import Bytes

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 1 << 26
MAX_SHARDS = 4096
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")


@dataclass(frozen=True)
class SafetensorsFolder:
    """The tensors of a folder under one roof. A ``Weights``; ``place`` says which file holds which tensor."""

    path: Path
    place: dict[str, SafetensorsFile]

    @classmethod
    def open(cls, path: Path) -> SafetensorsFolder:
        """Map the weights in the folder ``path`` and check every header.

        Raises ``NotFound``, ``UnsupportedType`` for a folder with pickled weights only, and ``FormatError``.
        """
        if (path / WHOLE).is_file():
            whole = SafetensorsFile.open(path / WHOLE)
            return cls(path, dict.fromkeys(whole.tensors, whole))
        if (path / INDEX).is_file():
            return cls(path, _open_shards(path))
        if path.is_dir() and any(path.glob("pytorch_model*.bin")):
            raise UnsupportedType(
                "holds pickled weights (.bin), which can run code when they are opened",
                file=path,
                hint="take a revision with .safetensors files, or a GGUF file of the model",
            )
        raise NotFound(f"{path}: neither {WHOLE} nor {INDEX}", hint="nomoat pull NAME fetches a whole model")

    def names(self) -> list[str]:
        """Return the tensor names in the order of the file or the index."""
        return list(self.place)

    def file(self, name: str) -> SafetensorsFile:
        """Return the file that holds the tensor; raises ``ShapeMismatch`` if there is none of that name."""
        found = self.place.get(name)
        if found is None:
            raise ShapeMismatch(f"tensor {name!r} is missing", file=self.path)
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape, (out, in) for a linear layer."""
        return self.file(name).tensors[name].shape

    def type(self, name: str) -> str:
        """Return the element type, such as "BF16"."""
        return self.file(name).tensors[name].type

    def data(self, name: str) -> Bytes:
        """Return the bytes, uint8 (rows, row_bytes), a read-only view of the file; a vector is one row."""
        return self.file(name).data(name)


def _open_shards(folder: Path) -> dict[str, SafetensorsFile]:
    weight_map = read_object(folder / INDEX, max_bytes=MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadHeader("has no weight_map", file=folder / INDEX)
    shards: dict[str, SafetensorsFile] = {}
    for name, shard in weight_map.items():
        _check_plain_name(shard, folder)
        if shard not in shards:
            if len(shards) == MAX_SHARDS:
                raise BadHeader(f"names more than {MAX_SHARDS} files", file=folder / INDEX)
            shards[shard] = _open_shard(folder / shard)
        if name not in shards[shard].tensors:
            raise FormatError(f"tensor {name!r} is not in {shard}, where the index has it", file=folder / INDEX)
    return {name: shards[shard] for name, shard in weight_map.items()}


def _open_shard(path: Path) -> SafetensorsFile:
    if not path.is_file():
        raise FormatError(f"{path.name} is missing", file=path.parent, hint="download the folder again")
    return SafetensorsFile.open(path)


def _check_plain_name(shard: Any, folder: Path) -> None:
    """A file of this folder and nothing else. (A link is fine: the hub's own cache consists of links.)"""
    if not isinstance(shard, str) or _PLAIN_NAME.fullmatch(shard) is None:
        raise BadHeader(f"names the file {shard!r:.80}, which is not a file of its folder", file=folder / INDEX)
