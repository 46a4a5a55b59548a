"""What an adapter is made of: hashes of its base and data, and the licence that follows from both."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from nomoat.core.files import sha256_file
from nomoat.core.store import Lineage, Parent, Store, read_lineage
from nomoat.formats.peft import WEIGHTS
from nomoat.model.load import Base

UNKNOWN_LICENCE = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """One parent as it is recorded, with its licence (empty: nothing is said)."""

    parent: Parent
    licence: str


def base_origin(store: Store, spec: str, base: Base) -> Origin:
    """The base's record in the store where it has one; else the hash of its file or files, and what they say."""
    lineage = _base_lineage(store, spec)
    if lineage is None:
        return Origin(Parent("base", base.name, model_sha256(base.path)), base.licence)
    known = next((parent.sha256 for parent in lineage.parents if parent.sha256), "")
    sha256 = known or model_sha256(base.path)
    return Origin(Parent("base", lineage.name, sha256), lineage.licence or base.licence)


def _base_lineage(store: Store, spec: str) -> Lineage | None:
    for name in store.names("bases"):
        lineage = read_lineage(store.path("bases", name))
        if lineage is not None and (name == spec or spec in lineage.details.get("aliases", ())):
            return lineage
    return None


def model_sha256(path: Path) -> str:
    """Hash of a model file; of a folder, the hash over names and hashes of its weights and configuration."""
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted([*path.glob("*.safetensors"), *path.glob("*.json")]):
        if file.name != "nomoat.json":
            digest.update(f"{file.name} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def data_origin(folder: Path) -> Origin:
    """A data set's record: the hash over its splits that training reads."""
    digest = hashlib.sha256()
    for name, sha256 in split_hashes(folder).items():
        digest.update(f"{name} {sha256}\n".encode())
    lineage = read_lineage(folder)
    licence = lineage.licence if lineage is not None else ""
    return Origin(Parent("data", folder.name, digest.hexdigest()), licence)


def split_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of ``train.jsonl`` and ``valid.jsonl``: what the bytes of an adapter depend on."""
    names = ("train.jsonl", "valid.jsonl")
    return {name: sha256_file(folder / name) for name in names if (folder / name).is_file()}


def adapter_origins(folders: Sequence[Path]) -> tuple[Origin, ...]:
    """The records of adapters: the hashes of their weights, the licences that their lineages state."""
    origins = []
    for folder in folders:
        lineage = read_lineage(folder)
        licence = lineage.licence if lineage is not None else ""
        origins.append(Origin(Parent("adapter", folder.name, sha256_file(folder / WEIGHTS)), licence))
    return tuple(origins)


def derived_licence(*licences: str) -> str:
    """What is made of several things is bound by the terms of each. ``AND`` as in SPDX expressions."""
    terms = [term.strip() for licence in licences for term in licence.split(" AND ")]
    named = list(dict.fromkeys(term for term in terms if term and term != UNKNOWN_LICENCE))
    if not named:
        return UNKNOWN_LICENCE
    return " AND ".join(named)
