"""``merge``: a stack folded into its base, as a Hugging Face folder; ``unmerge``: taken out again.

Inputs are never changed. Tensors that no adapter touches are copied byte for byte.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.core.errors import UnsupportedType, UsageError
from nomoat.core.files import atomic_write
from nomoat.core.records import Done, Note, Progress, Record, Saved
from nomoat.core.store import Lineage, Store, write_lineage
from nomoat.engine.names import open_stack, worn_folders
from nomoat.engine.reward import refuse_reward_head
from nomoat.formats.hf import CONFIG, read_config
from nomoat.formats.safetensors import INDEX, SafetensorsFolder
from nomoat.formats.safetensors_write import Shape, write_safetensors
from nomoat.formats.weights import Array, Bytes, Floats
from nomoat.model.adapters import Adapter, adaptable
from nomoat.model.load import Base, folder_place
from nomoat.stack.merge_weight import Merged, Rounding, as_floats, merge_weight, stacked_biases, stored_update
from nomoat.stack.update import Update, is_low_rank
from nomoat.train.parents import adapter_origins, base_origin, derived_licence

ASIDE = "unmerge.safetensors"
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
_COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "LICENCE*", "NOTICE*")
_NOT_COPIED = (CONFIG, INDEX, "nomoat.json")

Worn = Sequence[tuple[Adapter, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Which stored tensor each adapted module changes, and which bias, and which files there are.

    ``sources``: tensor -> the stored tensor it is made from, itself but for a head that was tied to the embedding.
    """

    weights: SafetensorsFolder
    modules: dict[str, str]
    biases: dict[str, str]
    sources: dict[str, str]
    files: dict[str, dict[str, tuple[str, Shape]]]
    unties: bool


def merge(spec: str, store: Store, *, name: str, dtype: str = "", replace: bool = False) -> Generator[Record]:
    """Write ``models/<name>``: the base of ``spec`` with its stack folded in. Ends with ``Done("merge")``.

    ``dtype``: F32, F16 or BF16 for the changed tensors; as they are stored if empty. Raises ``UsageError``,
    ``UnsupportedType`` for a base that is not a folder of float weights, ``AdapterMismatch``, ``StorageError``.
    """
    base, worn = open_stack(store, spec)
    refuse_reward_head(worn, "folding it into its base")
    if not worn:
        raise UsageError(f"{spec!r} wears no adapter: there is nothing to merge", hint=f"nomoat merge {spec}+ADAPTER")
    if not base.path.is_dir():
        raise UnsupportedType(
            "is quantized, and merging into its blocks would lose part of the update",
            file=base.path,
            hint=f"take the Hugging Face folder of the base, or: nomoat export {spec} --to gguf --name {name}",
        )
    layout = layout_of(base, worn, dtype)
    rounding = Rounding()
    with store.writing("models", name, replace=replace) as folder:
        copy_companions(base.path, folder, layout)
        aside: dict[str, Array] = {}
        for done, file in enumerate(layout.files, start=1):
            rounding += write_file(folder / file, layout, base, worn, aside)
            yield Progress("merging", done, len(layout.files), "files")
        if aside and all(is_low_rank(adapter) for adapter, _ in worn):
            _write_aside(folder / ASIDE, aside)
        write_lineage(folder, _lineage(name, spec, base, worn, layout, rounding, store))
    if rounding.share > 0.01:
        yield Note(f"rounding to {_types(layout)} loses {rounding.share:.1%} of the update", warning=True)
    path = store.path("models", name)
    yield Saved(path, "model")
    yield Done("merge", path, {"name": name, "modules": len(layout.modules), "rounding": rounding.share})


def layout_of(base: Base, worn: Worn, dtype: str) -> Layout:
    """Where everything goes; ``dtype`` is the type of changed tensors, as stored if empty.

    Raises ``UsageError`` for a bias that the base has no place for.
    """
    weights = SafetensorsFolder.open(base.path)
    place = folder_place(weights.names())
    adapted = list(dict.fromkeys(module for adapter, _ in worn for module in adapter.deltas))
    head, embedding = place(f"{HEAD}.weight"), place(f"{EMBEDDING}.weight")
    unties = head not in weights.names() and (EMBEDDING in adapted or HEAD in adapted)
    modules = {module: place(f"{module}.weight") for module in adapted}
    biases = {module: place(f"{module}.bias") for module in stacked_biases(worn)}
    for module, tensor in biases.items():
        if tensor not in weights.names():
            raise UsageError(
                f"the stack gives {module} a bias, and {base.name} has none to fold it into",
                hint="serve the adapters as a stack: BASE+ONE+OTHER",
            )
    sources = {name: name for name in weights.names()} | ({head: embedding} if unties else {})
    files: dict[str, dict[str, tuple[str, Shape]]] = {}
    changed = {*modules.values(), *biases.values()}
    for tensor, source in sources.items():
        stored = weights.file(source).tensors[source]
        type = dtype if dtype and tensor in changed else stored.type
        files.setdefault(weights.file(source).path.name, {})[tensor] = (type, stored.shape)
    return Layout(weights, modules, biases, sources, files, unties)


def write_file(target: Path, layout: Layout, base: Base, worn: Worn, aside: dict[str, Array]) -> Rounding:
    """Write one file of the merged folder; entries that cannot be restored by subtraction go to ``aside``."""
    total = Rounding()
    update_at = changes(layout, base, worn)

    def produce(tensor: str) -> Array:
        nonlocal total
        source = layout.sources[tensor]
        data = layout.weights.data(source)
        if tensor not in update_at:
            return data
        stored = layout.weights.file(source).tensors[source]
        type = layout.files[target.name][tensor][0]
        merged = merge_weight(as_matrix(data, stored.type, stored.shape), update_at[tensor](), type)
        total += merged.rounding
        _keep_aside(aside, tensor, merged)
        return merged.data

    write_safetensors(target, layout.files[target.name], produce, metadata={"format": "pt"})
    return total


def changes(layout: Layout, base: Base, worn: Worn) -> dict[str, Callable[[], Update]]:
    """How to make the update of every stored tensor that the stack changes."""
    frozen = adaptable(base.decoder)
    found: dict[str, Callable[[], Update]] = {
        tensor: functools.partial(stored_update, worn, module, frozen[module], by_token=module == EMBEDDING)
        for module, tensor in layout.modules.items()
    }
    for module, bias in stacked_biases(worn).items():
        found[layout.biases[module]] = functools.partial(Update, bias.new_ones(1, 1), bias[:, None])
    return found


def as_matrix(data: Bytes, type: str, shape: Shape) -> Floats:
    """A stored float tensor as float32, a vector as a column."""
    values = as_floats(data, type, shape)
    return values if values.ndim == 2 else values.reshape(-1, 1)


def _keep_aside(aside: dict[str, Array], tensor: str, merged: Merged) -> None:
    if len(merged.places):
        aside[f"{tensor}.places"], aside[f"{tensor}.values"] = merged.places, merged.values


def _write_aside(target: Path, aside: dict[str, Array]) -> None:
    types: dict[str, tuple[str, Shape]] = {
        name: ("I64" if values.dtype == np.int64 else "F32", values.shape) for name, values in aside.items()
    }
    write_safetensors(target, types, lambda name: aside[name])


def copy_companions(source: Path, target: Path, layout: Layout) -> None:
    """Configuration, tokenizer, template and licence; a head that is no longer tied is written down as such."""
    for pattern in _COPIED:
        for path in sorted(source.glob(pattern)):
            if path.is_file() and path.name not in _NOT_COPIED:
                shutil.copyfile(path, target / path.name)
    config = read_config(source)
    if layout.unties:
        config = untied(config)
    atomic_write(target / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    if (source / INDEX).is_file():
        places = {tensor: file for file, tensors in layout.files.items() for tensor in tensors}
        atomic_write(target / INDEX, json.dumps({"metadata": {}, "weight_map": places}, indent=2) + "\n")


def untied(config: dict[str, Any], *, tied: bool = False) -> dict[str, Any]:
    """The configuration with the head's tie to the embedding set, in the language model's part too."""
    changed = {**config, "tie_word_embeddings": tied}
    inner = config.get("text_config")
    if isinstance(inner, dict) and "tie_word_embeddings" in inner:
        changed["text_config"] = {**inner, "tie_word_embeddings": tied}
    return changed


def _types(layout: Layout) -> str:
    types = [file[tensor][0] for file in layout.files.values() for tensor in layout.modules.values() if tensor in file]
    return " and ".join(sorted(set(types)))


def _lineage(name: str, spec: str, base: Base, worn: Worn, layout: Layout, rounding: Rounding, store: Store) -> Lineage:
    origin = base_origin(store, base.name, base)
    folders = worn_folders(store, spec)
    theirs = adapter_origins(folders)
    adapters = [{"folder": str(folder.absolute()), "weight": weight} for folder, (_, weight) in zip(folders, worn)]
    return Lineage(
        kind="models",
        name=name,
        licence=derived_licence(origin.licence, *(each.licence for each in theirs)),
        parents=(origin.parent, *(each.parent for each in theirs)),
        options={"merged": spec, "dtype": _types(layout)},
        metrics={"rounding": rounding.share},
        details={
            "adapters": adapters,
            "untied": layout.unties,
            "base_fingerprint": base.fingerprint.as_dict(),
            "base_tensors": hashes_of(layout.weights, _changed(layout)),
        },
    )


def _changed(layout: Layout) -> list[str]:
    """The stored tensors that the stack changes; a head that was tied to the embedding was none."""
    return [
        tensor for tensor in (*layout.modules.values(), *layout.biases.values()) if layout.sources[tensor] == tensor
    ]


def hashes_of(weights: SafetensorsFolder, tensors: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each tensor's values as float32, whichever type they are stored in."""
    found = {}
    for tensor in tensors:
        stored = weights.file(tensor).tensors[tensor]
        values = as_matrix(weights.data(tensor), stored.type, stored.shape)
        found[tensor] = hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
    return found
