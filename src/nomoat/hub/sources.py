"""The kinds of places a base can come from, and what a finished fetch hands on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from nomoat.core.options import option


@dataclasses.dataclass(frozen=True, slots=True)
class PullOptions:
    """Options of ``nomoat pull``."""

    name: str = option("", "what to call the base in the store [made from what is pulled]", metavar="NAME")
    copy: bool = option(False, "copy a local file into the store instead of recording where it lies")
    replace: bool = option(False, "put an existing base of that name aside")
    sha256: str = option("", "refuse any file but the one with this hash", metavar="HEX")


@dataclasses.dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on a Hugging Face hub. ``file`` is a file name, a quantization (``Q8_0``) or empty."""

    repo: str
    file: str = ""
    revision: str = "main"
    sha256: str = ""

    @property
    def title(self) -> str:
        return f"hf:{self.repo}" + (f":{self.file}" if self.file else "")


@dataclasses.dataclass(frozen=True, slots=True)
class UrlSource:
    url: str
    sha256: str = ""

    @property
    def title(self) -> str:
        return self.url


@dataclasses.dataclass(frozen=True, slots=True)
class PackageSource:
    """Packages whose largest files, joined in order, are a GGUF file. ``vouched``: pinned in the catalogue."""

    packages: tuple[str, ...]
    sha256: str = ""
    vouched: bool = False

    @property
    def title(self) -> str:
        return "pypi:" + ",".join(self.packages)


@dataclasses.dataclass(frozen=True, slots=True)
class PathSource:
    path: Path
    copy: bool = False
    sha256: str = ""

    @property
    def title(self) -> str:
        return str(self.path)


Source = HubSource | UrlSource | PackageSource | PathSource


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """Files ready to be named. ``files`` maps the name in the base's folder to where the file lies now.

    ``sha256`` is the GGUF file's, or for a folder that of its list of file hashes. ``linked`` is the local
    model that the base only points to; then ``files`` is empty. ``licence`` is what the source states.
    """

    origin: str
    sha256: str
    size_bytes: int
    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    linked: Path | None = None
    licence: str = ""
    keep: bool = False
    """Whether ``files`` are someone else's: copied into the store, never moved."""
