"""A base with its stack folded in, as one GGUF file.

From a GGUF base the metadata and the tokenizer are carried over byte for byte, and so is every tensor that neither
the stack nor the preset changes. From a Hugging Face folder they are written anew (``gguf_header.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from nomoat.core.errors import UsageError
from nomoat.core.records import Progress
from nomoat.engine.names import Worn
from nomoat.export.gguf_header import header_of, side_tensors
from nomoat.export.importance import usable
from nomoat.export.layout import row_order, tensor_name
from nomoat.export.merged import merged_rows, touches
from nomoat.export.presets import PRESETS, type_of
from nomoat.formats.gguf import GgufFile
from nomoat.formats.gguf_write import PlannedTensor, Value, float_tensor, stream_gguf
from nomoat.formats.quantize import quantize
from nomoat.formats.weights import Bytes, Floats
from nomoat.kernels.fit_native import search
from nomoat.model.adapter_bias import biases_of
from nomoat.model.adapters import adaptable
from nomoat.model.gguf_config import gguf_tensor_name
from nomoat.model.load import Base
from nomoat.stack.merge_weight import stacked_biases

_ALWAYS_TIED = ("gemma2",)  # llama.cpp knows no head of their own


@dataclasses.dataclass(frozen=True, slots=True)
class Merge:
    """What goes into the file. ``importance``: module -> (in,), from ``measure_importance``."""

    base: Base
    worn: Worn
    preset: str
    importance: Mapping[str, Floats] = dataclasses.field(default_factory=dict)


def write_model(path: Path, merge: Merge) -> Generator[Progress]:
    """Write ``base`` with the stack folded in under a preset of ``PRESETS``, whole or not at all.

    Raises ``UsageError``, ``NumericError``, and ``UnsupportedType`` for a folder whose tokenizer llama.cpp cannot be
    told.
    """
    source = GgufFile.open(merge.base.path) if merge.base.path.is_file() else None
    metadata, tensors = _metadata(merge, source), plan_tensors(merge, source)
    total = sum(tensor.size_bytes for tensor in tensors)
    for done in stream_gguf(path, metadata, tensors):
        yield Progress("writing", done, total, "B")


def _metadata(merge: Merge, source: GgufFile | None) -> dict[str, Value]:
    metadata = header_of(merge.base) if source is None else _carried_metadata(source)
    metadata |= _spoken(merge.base)
    metadata["general.file_type"] = PRESETS[merge.preset].file_type
    metadata["general.quantization_version"] = 2
    return metadata


def _carried_metadata(source: GgufFile) -> dict[str, Value]:
    return {key: source.stored_value(key) for key in source.metadata}


def _spoken(base: Base) -> dict[str, Value]:
    """The template, where the file's own is not the one that was trained with, and whether BOS is still to be added.

    A runtime adds BOS to what the template writes, once, where the file asks for it; training sees the template's
    alone.
    """
    keys: dict[str, Value] = {}
    if base.template.kind != "base" or base.path.is_dir():
        keys["tokenizer.chat_template"] = base.template.source
    bos = base.tokenizer.text_of(base.tokenizer.bos_id)
    written = base.template.render([{"role": "user", "content": "x"}], add_generation_prompt=True)
    if base.tokenizer.adds_bos and not written.startswith(bos):
        keys["tokenizer.ggml.add_bos_token"] = False
    return keys


def plan_tensors(merge: Merge, source: GgufFile | None) -> list[PlannedTensor]:
    """Every tensor of the file, in the base's order; a head of its own last where the stack parts it."""
    parted = _parted(merge)
    config = merge.base.decoder.config
    modules = [module for module in adaptable(merge.base.decoder) if module != "lm_head" or parted or not config.tied]
    planned = {tensor_name(module, config): _planned(module, merge, parted) for module in modules}
    biases = _biases(merge)
    if source is None:
        return [*planned.values(), *(biases.get(tensor.name, tensor) for tensor in side_tensors(merge.base))]
    touched = {tensor_name(module, config) for module in modules if touches(merge.worn, module)} | set(biases)
    planned |= biases
    tensors = []
    for name in source.names():
        ready = planned.pop(name, None)
        as_it_stands = ready is None or (ready.type == source.type(name) and name not in touched)
        tensors.append(_carried(source, name) if ready is None or as_it_stands else ready)
    return tensors + list(planned.values())


def _biases(merge: Merge) -> dict[str, PlannedTensor]:
    """The biases that the stack changes, by their names in the file."""
    found, config, theirs = {}, merge.base.decoder.config, biases_of(merge.base.decoder)
    for module, added in stacked_biases(merge.worn).items():
        if module not in theirs:
            raise UsageError(
                f"the stack gives {module} a bias, and {merge.base.name} has none to fold it into",
                hint="serve it with nomoat serve, or export --to peft",
            )
        order = row_order(module, len(added), config)
        bias = theirs[module] + added
        name = gguf_tensor_name(f"{module}.bias", config.norms)
        found[name] = float_tensor(name, (bias if order is None else bias[order]).numpy())
    return found


def _carried(source: GgufFile, name: str) -> PlannedTensor:
    """A tensor as it stands in the base's file."""
    return PlannedTensor(name, source.type(name), source.shape(name), lambda: [source.data(name)])


def _parted(merge: Merge) -> bool:
    """Whether embeddings and head, one matrix in the base, have to become two."""
    touched = any(touches(merge.worn, module) for module in ("lm_head", merge.base.decoder.embed_tokens.name))
    if not (merge.base.decoder.config.tied and touched):
        return False
    if merge.base.decoder.config.family in _ALWAYS_TIED:
        raise UsageError(
            f"the stack changes the embeddings or the head of {merge.base.name}, which llama.cpp knows as one matrix",
            hint="serve it with nomoat serve, or export --to hf or peft",
        )
    return True


def _planned(module: str, merge: Merge, parted: bool) -> PlannedTensor:
    config, weight = merge.base.decoder.config, adaptable(merge.base.decoder)[module]
    name = tensor_name(module, config)
    type = type_of(name, weight.shape, merge.preset, n_layers=config.n_layers, tied=config.tied and not parted)
    importance = merge.importance.get(module)

    def pieces() -> Iterator[Bytes]:
        counts = None if importance is None else usable(importance)
        order = row_order(module, weight.shape[0], config)
        for rows in merged_rows(merge.worn, module, weight, order=order):
            yield quantize(rows.numpy(), type, counts, search())

    return PlannedTensor(name, type, weight.shape, pieces)
