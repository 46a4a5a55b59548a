"""``unmerge``: the adapters that a merged model was made with, taken out of it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from nomoat.core.errors import AdapterMismatch, FormatError, UsageError
from nomoat.core.files import atomic_write, sha256_file
from nomoat.core.records import Done, Note, Progress, Record, Saved
from nomoat.core.store import Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.formats.hf import CONFIG
from nomoat.formats.peft import WEIGHTS
from nomoat.formats.safetensors import SafetensorsFolder
from nomoat.formats.safetensors_write import from_bytes, to_bytes, write_safetensors
from nomoat.formats.weights import Array
from nomoat.model.adapters import Adapter
from nomoat.model.fingerprint import Fingerprint
from nomoat.model.load import Base, load_base
from nomoat.stack.merge import (
    ASIDE,
    HEAD,
    Layout,
    Worn,
    as_matrix,
    changes,
    copy_companions,
    hashes_of,
    layout_of,
    untied,
)
from nomoat.stack.merge_weight import Rounding, unmerge_weight
from nomoat.stack.update import is_low_rank


def unmerge(merged: str, store: Store, *, name: str, replace: bool = False) -> Generator[Record]:
    """Write ``models/<name>``: the merged model without its stack. Ends with ``Done("unmerge")``.

    Bit-equal to the base where the merged tensors are float32, as near as their rounding elsewhere; the result says how
    many tensors have the base's hash, and what the others are off at most, as a share of the update. Raises
    ``UsageError`` for a model that was not merged here or wears a DoRA, ``AdapterMismatch`` where an adapter has
    changed since.
    """
    folder = store.find("models", merged.removeprefix("models/"))
    lineage = _merged_lineage(folder)
    base = _as_its_base(load_base(folder, name=merged), lineage)
    worn = _worn(base, lineage)
    layout = _without_untied_head(layout_of(base, worn, ""), lineage)
    aside = load_file(folder / ASIDE) if (folder / ASIDE).is_file() else {}
    with store.writing("models", name, replace=replace) as target:
        copy_companions(folder, target, layout)
        if lineage.details.get("untied"):
            _tie_again(target)
        rounding = Rounding()
        for done, file in enumerate(layout.files, start=1):
            rounding += _write_file(target / file, layout, base, worn, aside)
            yield Progress("taking apart", done, len(layout.files), "files")
        result = _account(lineage, SafetensorsFolder.open(target), rounding)
        write_lineage(target, _lineage(name, lineage, folder, result))
    if result["restored"] < result["tensors"]:
        yield Note("the merged weights are 16-bit: the base is restored up to their rounding, not to the bit")
    path = store.path("models", name)
    yield Saved(path, "model")
    yield Done("unmerge", path, {"name": name, "modules": len(layout.modules), **result})


def _account(lineage: Lineage, restored: SafetensorsFolder, rounding: Rounding) -> dict[str, Any]:
    """Tensors that the stack had changed, how many are the base's again to the bit, and what the others may be off.

    That is a share of the update's norm: the merge's rounding and this one's together, which they cannot exceed.
    """
    known = lineage.details.get("base_tensors")
    known = known if isinstance(known, dict) else {}
    found = hashes_of(restored, known.keys() & set(restored.names()))
    equal = sum(found.get(tensor) == sha256 for tensor, sha256 in known.items())
    off = 0.0 if known and equal == len(known) else float(lineage.metrics.get("rounding", 0.0)) + rounding.share
    return {"tensors": len(known), "restored": equal, "off_at_most": off}


def _merged_lineage(folder: Path) -> Lineage:
    lineage = read_lineage(folder)
    if lineage is None or not isinstance(lineage.details.get("adapters"), list):
        raise UsageError(f"{folder.name!r} was not merged here", hint="nomoat merge BASE+ADAPTER --name NAME")
    return lineage


def _as_its_base(merged: Base, lineage: Lineage) -> Base:
    """The merged model under the fingerprint of the base that its adapters know."""
    values = lineage.details.get("base_fingerprint")
    fingerprint = Fingerprint.from_dict(values) if isinstance(values, dict) else None
    return merged if fingerprint is None else dataclasses.replace(merged, fingerprint=fingerprint)


def _worn(base: Base, lineage: Lineage) -> list[tuple[Adapter, float]]:
    known = {parent.name: parent.sha256 for parent in lineage.parents if parent.kind == "adapter"}
    worn = []
    for entry in lineage.details["adapters"]:
        try:
            folder, weight = Path(entry["folder"]), float(entry["weight"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not the record of a merge: {error}", file=lineage.name) from error
        if known.get(folder.name) != sha256_file(folder / WEIGHTS):
            why = "it has changed since it was merged"
            hint = "put the adapter back as it was, or take the base itself: nomoat ls --tree names it"
            raise AdapterMismatch(folder.name, expected=lineage.parents[0].name, got=lineage.name, why=why, hint=hint)
        adapter = base.load_adapter(folder)
        if not is_low_rank(adapter):
            raise UsageError(
                f"{folder.name!r} is a DoRA: what it added depends on weights that are no longer there",
                hint=f"the base is {lineage.parents[0].name}",
            )
        worn.append((adapter, weight))
    return worn


def _without_untied_head(layout: Layout, lineage: Lineage) -> Layout:
    """The head that merging made of the tied embedding is left out again."""
    if not lineage.details.get("untied"):
        return layout
    files = {
        file: {tensor: entry for tensor, entry in tensors.items() if not tensor.endswith(f"{HEAD}.weight")}
        for file, tensors in layout.files.items()
    }
    return dataclasses.replace(layout, files=files, unties=False)


def _tie_again(target: Path) -> None:
    config: dict[str, Any] = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    atomic_write(target / CONFIG, json.dumps(untied(config, tied=True), indent=2, ensure_ascii=False) + "\n")


def _write_file(target: Path, layout: Layout, base: Base, worn: Worn, aside: dict[str, Any]) -> Rounding:
    total = Rounding()
    update_at = changes(layout, base, worn)

    def produce(tensor: str) -> Array:
        nonlocal total
        data = layout.weights.data(tensor)
        if tensor not in update_at:
            return data
        type, shape = layout.files[target.name][tensor]
        places = np.asarray(aside.get(f"{tensor}.places", np.empty(0, np.int64)))
        values = np.asarray(aside.get(f"{tensor}.values", np.empty(0, np.float32)))
        if len(places) != len(values) or (len(places) and not 0 <= places.min() <= places.max() < np.prod(shape)):
            raise FormatError(f"entries of {tensor} lie outside of it", file=ASIDE)
        update = update_at[tensor]()
        matrix = unmerge_weight(as_matrix(data, type, shape), update, places, values)
        written = to_bytes(matrix, type)
        error = from_bytes(written, type).reshape(matrix.shape) - matrix
        total += Rounding(update.energy, float(np.square(error, dtype=np.float64).sum()))
        return written

    write_safetensors(target, layout.files[target.name], produce, metadata={"format": "pt"})
    return total


def _lineage(name: str, merged: Lineage, folder: Path, result: dict[str, Any]) -> Lineage:
    parents = (Parent("model", folder.name, ""), *(parent for parent in merged.parents if parent.kind == "adapter"))
    options = {"unmerged": merged.options.get("merged", "")}
    return Lineage(kind="models", name=name, licence=merged.licence, parents=parents, options=options, metrics=result)
