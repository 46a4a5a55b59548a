"""LoRA adapters as PEFT folders: ``adapter_config.json`` and ``adapter_model.safetensors``.

Tensor names and shapes are those ``peft`` saves: ``base_model.model.<module>.lora_A.weight`` (rank, in) and
``.lora_B.weight`` (out, rank); for an embedding ``.lora_embedding_A`` (rank, V) and ``.lora_embedding_B`` (D, rank);
for DoRA also ``.lora_magnitude_vector`` (out), with ``lora_bias`` also ``.lora_B.bias`` (out). A module of
``modules_to_save`` is there whole, as ``<module>.weight``; so are the base's biases where the adapter trained them, as
``<module>.bias``, or ``<module>.base_layer.bias`` where the module has factors too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.errors import FormatError, NotFound, ShapeMismatch, UnsupportedType
from nomoat.core.files import atomic_write
from nomoat.formats.blocks import dequantize
from nomoat.formats.bounded_json import read_object
from nomoat.formats.peft_config import MAX_RANK, check_config
from nomoat.formats.safetensors_file import SafetensorsFile, encode
from nomoat.formats.weights import Floats

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"

_FACTOR = re.compile(
    r"base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,512})\."
    r"(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B|lora_magnitude_vector(\.weight)?)"
)
# peft adds a copy of the base's matrix when an embedding is adapted
_BASE_COPY = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,512})\.base_layer\.weight")

_BIAS = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,512}?)(\.base_layer)?\.bias")

_WHOLE = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,512})\.weight")

_HEADS = ("classifier", "score")

_A = ("lora_A.weight", "lora_embedding_A")
_B = ("lora_B.weight", "lora_embedding_B")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter as it is on disk.

    ``config`` is the whole of ``adapter_config.json``, ``tensors`` the factors by their full names, ``metadata`` the
    free text of the weights file. ``base_copies`` are the shapes, by module, of copies of base weights, which
    ``peft`` stores beside an adapted embedding and which are not read. ``saved`` are matrices, by module, that take the
    base's place (``modules_to_save``), ``biases`` vectors that do (``bias``).
    """

    config: dict[str, Any]
    tensors: dict[str, Floats]
    metadata: dict[str, str]
    base_copies: dict[str, tuple[int, ...]]
    saved: dict[str, Floats] = field(default_factory=dict)
    biases: dict[str, Floats] = field(default_factory=dict)


def read_adapter(folder: Path) -> AdapterFiles:
    """Read and check the adapter in ``folder``; bf16 and f16 become float32.

    Raises ``NotFound``; ``UnsupportedType`` for pickled weights and for kinds of adapter we do not run;
    ``BadHeader``, ``ShapeMismatch`` and ``FormatError`` for what is damaged or not finite.
    """
    config = read_object(folder / CONFIG)
    check_config(config, folder / CONFIG)
    file = _open_weights(folder)
    stored = {name: tensor.shape for name, tensor in file.tensors.items()}
    whole, biases = _whole_modules(config, stored, file.path), _whole_biases(config, stored, file.path)
    copies = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in file.tensors.items():
        copy = _BASE_COPY.fullmatch(name)
        if copy:
            copies[copy["module"]] = tensor.shape
        elif name not in whole and name not in biases:
            shapes[name] = tensor.shape
    _check_shapes(shapes, file.path)
    tensors = {name: _floats(file, name) for name in shapes}
    saved = {module: _floats(file, name) for name, module in whole.items()}
    held = {module: _floats(file, name) for name, module in biases.items()}
    return AdapterFiles(config, tensors, file.metadata, copies, saved, held)


def _whole_modules(config: Mapping[str, Any], shapes: Shapes, path: Path) -> dict[str, str]:
    """Tensor name -> module, for the modules that are saved whole; each that is named must be there, as a matrix.

    ``peft`` names both heads that a classifier may have, of which a model has one.
    """
    wanted = config.get("modules_to_save") or []
    found: dict[str, str] = {}
    for name, shape in shapes.items():
        match = _WHOLE.fullmatch(name) if _FACTOR.fullmatch(name) is None else None
        if match is None or not any(f".{match['module']}".endswith(f".{end}") for end in wanted):
            continue
        if len(shape) != 2:
            raise UnsupportedType(f"modules_to_save: {match['module']!r} is no matrix, and stays the base's", file=path)
        found[name] = match["module"]
    has_head = any(module in _HEADS for module in found.values())
    for end in wanted:
        if not any(f".{module}".endswith(f".{end}") for module in found.values()) and not (has_head and end in _HEADS):
            raise FormatError(f"modules_to_save names {end!r}, of which there is no weight", file=path)
    return found


def _whole_biases(config: Mapping[str, Any], shapes: Shapes, path: Path) -> dict[str, str]:
    """Tensor name -> module, for biases that take the base's place."""
    if config.get("bias") in (None, "none"):
        return {}
    found: dict[str, str] = {}
    for name, shape in shapes.items():
        match = _BIAS.fullmatch(name) if _FACTOR.fullmatch(name) is None else None
        if match is None:
            continue
        if len(shape) != 1 or match["module"] in found.values():
            raise ShapeMismatch(f"{name!r} {shape} is not the one bias of its module", file=path)
        found[name] = match["module"]
    return found


def write_adapter(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Floats],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter that ``read_adapter`` and ``peft`` read; the same input gives the same bytes.

    Each file is written whole or not at all, the configuration last. Nothing is written that would be refused on
    reading: raises what ``read_adapter`` raises, and ``StorageError``.
    """
    check_config(config, folder / CONFIG)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    whole, biases = _whole_modules(config, shapes, folder / WEIGHTS), _whole_biases(config, shapes, folder / WEIGHTS)
    factors = {name: shape for name, shape in shapes.items() if name not in whole and name not in biases}
    _check_shapes(factors, folder / WEIGHTS)
    for name, tensor in tensors.items():
        _check_finite(name, tensor, folder / WEIGHTS)
    atomic_write(folder / WEIGHTS, encode(tensors, {"format": "pt", **(metadata or {})}))
    atomic_write(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _open_weights(folder: Path) -> SafetensorsFile:
    if (folder / WEIGHTS).is_file():
        return SafetensorsFile.open(folder / WEIGHTS)
    if (folder / PICKLED).is_file():
        raise UnsupportedType(
            f"{PICKLED} is pickled, and opening it can run code",
            file=folder,
            hint="ask its author for safetensors, or save it again in a sandbox with peft's save_pretrained",
        )
    raise NotFound(f"no such file: {folder / WEIGHTS}")


def _check_shapes(shapes: Shapes, path: Path) -> None:
    """Check that every tensor is a known part of a module and that the parts of a module fit each other."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        found = _FACTOR.fullmatch(name)
        if found is None:
            raise UnsupportedType(f"tensor {name!r:.200} is not part of a LoRA adapter", file=path)
        modules.setdefault(found["module"], {})[found["part"]] = shape
    if not modules:
        raise FormatError("holds no tensors", file=path)
    for module, parts in modules.items():
        _check_module(module, parts, path)


def _check_module(module: str, parts: Shapes, path: Path) -> None:
    a = [parts[part] for part in _A if part in parts]
    b = [parts[part] for part in _B if part in parts]
    if len(a) != 1 or len(b) != 1 or ("lora_A.weight" in parts) != ("lora_B.weight" in parts):
        raise ShapeMismatch(
            f"module {module!r} has the parts {', '.join(sorted(parts))}, not an A and its B", file=path
        )
    fits = len(a[0]) == len(b[0]) == 2 and a[0][0] == b[0][1] and min(a[0] + b[0]) > 0
    if not fits:
        raise ShapeMismatch(f"module {module!r}: A {a[0]} and B {b[0]} are not (rank, in) and (out, rank)", file=path)
    if a[0][0] > MAX_RANK:
        raise ShapeMismatch(f"module {module!r} has rank {a[0][0]}, more than {MAX_RANK}", file=path)
    for part, shape in parts.items():
        if (part.startswith("lora_magnitude") or part == "lora_B.bias") and shape != b[0][:1]:
            raise ShapeMismatch(f"module {module!r}: {part} {shape} is not {b[0][:1]}", file=path)


def _floats(file: SafetensorsFile, name: str) -> Floats:
    tensor = file.tensors[name]
    values = dequantize(file.data(name), tensor.type).reshape(tensor.shape)
    _check_finite(name, values, file.path)
    return values


def _check_finite(name: str, values: Floats, path: Path) -> None:
    if not np.isfinite(values).all():
        raise FormatError(f"tensor {name!r} holds values that are not finite numbers", file=path)
