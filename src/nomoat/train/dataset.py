"""DATA on the command line: a name in the store, or a path that becomes a data set on the spot."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

from nomoat.core.errors import UsageError
from nomoat.core.files import sha256_file
from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store, read_lineage
from nomoat.data.add import AddOptions, add

_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def find_or_add(store: Store, data: str) -> Generator[Record, None, Path]:
    """The folder of the data set that ``data`` names; a file or folder is added under its own name first."""
    if data in store.names("data"):
        return store.path("data", data)
    path = Path(data).expanduser()
    if not path.exists():
        return store.find_data(data)  # raises, with near matches
    name = _ODD.sub("-", path.stem).strip("-.") or "data"
    if name not in store.names("data"):
        for record in add(AddOptions(paths=(str(path),), name=name), store):
            if not isinstance(record, Done):
                yield record
    elif not _is_made_of(store.path("data", name), path):
        raise UsageError(
            f"there is a data set {name!r} already, made of something else than {path}",
            hint=f"nomoat data add {path} --name OTHER, then nomoat tune OTHER",
        )
    else:
        yield Note(f"{path} is the data set {name!r} already")
    return store.path("data", name)


def _is_made_of(folder: Path, path: Path) -> bool:
    lineage = read_lineage(folder)
    if lineage is None or not path.is_file():
        return False
    return [parent.sha256 for parent in lineage.parents] == [sha256_file(path)]
