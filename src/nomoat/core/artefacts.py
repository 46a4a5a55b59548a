"""Artefacts of a home across kinds: find one by name alone, its ancestors, and who descends from it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from pathlib import Path

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.files import disk_errors
from nomoat.core.store import KINDS, Kind, Lineage, Parent, Store, read_lineage

SINGULAR: dict[Kind, str] = {
    "bases": "base",
    "data": "data set",
    "adapters": "adapter",
    "models": "model",
    "runs": "run",
}
_SPELLINGS: dict[str, Kind] = {
    **{kind: kind for kind in KINDS},
    "base": "bases",
    "adapter": "adapters",
    "model": "models",
    "run": "runs",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Artefact:
    """One named folder of the store. ``lineage`` is None for a folder that something else put there."""

    kind: Kind
    name: str
    path: Path
    lineage: Lineage | None

    @property
    def spec(self) -> str:
        """``adapters/scribe``: the name that cannot be mistaken for another kind's."""
        return f"{self.kind}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Ancestor:
    """One line of a descent: how deep it stands, what it is, where it lies if it is still here.

    ``above``: its own descent stands further up.
    """

    depth: int
    kind: str
    name: str
    sha256: str
    artefact: Artefact | None
    above: bool = False


def read_kind(word: str) -> Kind | None:
    """The store's kind for ``base``, ``bases``, ``adapter`` ...; None for other words (``file``, ``hub``)."""
    return _SPELLINGS.get(word)


def all_artefacts(store: Store, kind: Kind | None = None) -> Iterator[Artefact]:
    """Every artefact of the home, or of one kind, by kind and name."""
    for each in (kind,) if kind else KINDS:
        for name in store.names(each):
            path = store.home / each / name
            if path.is_dir():
                yield Artefact(each, name, path, read_lineage(path))


def locate(store: Store, spec: str) -> Artefact:
    """The artefact called ``scribe`` or ``adapters/scribe``.

    Raises ``NotFound`` with near matches, ``UsageError`` where several kinds share the name.
    """
    word, slash, rest = spec.partition("/")
    kind = read_kind(word) if slash else None
    if kind is not None:
        return Artefact(kind, rest, path := store.find(kind, rest), read_lineage(path))
    found = [each for each in all_artefacts(store) if each.name == spec]
    if len(found) == 1:
        return found[0]
    if found:
        specs = ", ".join(each.spec for each in found)
        raise UsageError(f"{spec!r} is the name of {len(found)} artefacts", hint=f"say which: {specs}")
    near = difflib.get_close_matches(spec, [each.name for each in all_artefacts(store)], n=3)
    meant = f"; did you mean {', '.join(near)}?" if near else ""
    raise NotFound(f"nothing named {spec!r} in {store.home}{meant}", hint="nomoat ls lists what there is")


def descent(store: Store, artefact: Artefact) -> Iterator[Ancestor]:
    """The artefact and everything it was made from, depth first.

    What comes a second time is named and not gone into again: an adapter folded fifty times over has 2^50 paths to
    its first parent, and damaged records may go in a circle.
    """
    yield Ancestor(0, artefact.kind, artefact.name, "", artefact)
    told, ahead = {artefact.spec}, [iter(_parents(artefact))]
    while ahead:
        parent = next(ahead[-1], None)
        if parent is None:
            ahead.pop()
            continue
        found = _parent_artefact(store, parent)
        again = found is not None and found.spec in told
        yield Ancestor(len(ahead), parent.kind, parent.name, parent.sha256, found, again and bool(_parents(found)))
        if found is not None and not again:
            told.add(found.spec)
            ahead.append(iter(_parents(found)))


def _parents(artefact: Artefact | None) -> tuple[Parent, ...]:
    return artefact.lineage.parents if artefact is not None and artefact.lineage is not None else ()


def _parent_artefact(store: Store, parent: Parent) -> Artefact | None:
    kind = read_kind(parent.kind)
    if kind is None or parent.name not in store.names(kind):
        return None
    path = store.path(kind, parent.name)
    return Artefact(kind, parent.name, path, read_lineage(path))


def descendants(store: Store, artefact: Artefact) -> list[Artefact]:
    """The artefacts that name this one as a parent."""
    return [
        each
        for each in all_artefacts(store)
        if each.lineage is not None
        and any(
            read_kind(parent.kind) == artefact.kind and parent.name == artefact.name for parent in each.lineage.parents
        )
    ]


def size_bytes(artefact: Artefact) -> int:
    """Bytes that the artefact takes in the store; a linked base counts its record only."""
    with disk_errors(artefact.path):
        return sum(path.stat().st_size for path in artefact.path.rglob("*") if path.is_file() and not path.is_symlink())
