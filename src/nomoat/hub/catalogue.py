"""The built-in list of bases: name, licence, size, memory needed and sources, read from catalogue.toml."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from importlib import resources
from typing import Any

from nomoat.hub.sources import HubSource, PackageSource


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogueSource:
    """One source of an entry; ``size_bytes`` is for people, a round number where the exact one is not known."""

    source: HubSource | PackageSource
    quantization: str
    size_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One base of the catalogue; ``ram_*_gb`` are estimates in 1e9 bytes."""

    name: str
    aliases: tuple[str, ...]
    title: str
    family: str
    parameters: int
    chat: bool
    licence: str
    licence_url: str
    ram_chat_gb: float
    ram_tune_gb: float
    sources: tuple[CatalogueSource, ...]


def entries() -> tuple[Entry, ...]:
    """Every entry, in the file's order."""
    text = resources.files("nomoat.hub").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(_entry(values) for values in tomllib.loads(text)["base"])


def find(word: str) -> Entry | None:
    """The entry of that name or alias, in any letter case."""
    wanted = word.lower()
    return next((entry for entry in entries() if wanted in (entry.name, *entry.aliases)), None)


def near(word: str) -> list[str]:
    """Up to three names of the catalogue that look like ``word``."""
    names = [name for entry in entries() for name in (entry.name, *entry.aliases)]
    return difflib.get_close_matches(word.lower(), names, n=3)


def _entry(values: dict[str, Any]) -> Entry:
    return Entry(
        **{
            **values,
            "aliases": tuple(values["aliases"]),
            "sources": tuple(_source(source) for source in values["sources"]),
        }
    )


def _source(values: dict[str, Any]) -> CatalogueSource:
    sha256 = values.get("sha256", "")
    source: HubSource | PackageSource
    if "hub" in values:
        source = HubSource(values["hub"], values["file"], values.get("revision", "main"), sha256)
    else:
        source = PackageSource(tuple(values["packages"]), sha256, vouched=True)
    return CatalogueSource(source, values["quantization"], values["size_bytes"])
