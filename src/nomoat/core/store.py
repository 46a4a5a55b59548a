"""The store on disk: named artefacts, each a folder in the field's own format plus ``nomoat.json``.

    $NOMOAT_HOME (default ~/.nomoat)
      bases/<name>/  data/<name>/  adapters/<name>/  models/<name>/  runs/<id>/

Every artefact is written to a temporary folder and renamed, so a name holds a whole artefact or nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import nomoat
from nomoat.core.errors import FormatError, NotFound, UsageError
from nomoat.core.files import atomic_folder, disk_errors, write_json

Kind = Literal["bases", "data", "adapters", "models", "runs"]
KINDS: tuple[Kind, ...] = ("bases", "data", "adapters", "models", "runs")
LINEAGE_FILE = "nomoat.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HINT_FOR_MISSING = {
    "bases": "nomoat pull {name}   (or give a path to a GGUF file or a Hugging Face folder)",
    "data": "nomoat data add FILE --name {name}",
    "adapters": "nomoat tune DATA --base BASE --name {name}",
    "runs": "nomoat ls --kind runs",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Parent:
    """One artefact or file that another was made from."""

    kind: str
    name: str
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """What ``nomoat.json`` holds: where an artefact comes from and what was measured of it."""

    kind: str
    name: str
    licence: str = ""
    parents: tuple[Parent, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    created: str = dataclasses.field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    nomoat_version: str = nomoat.__version__


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """Write ``folder/nomoat.json``."""
    write_json(folder / LINEAGE_FILE, dataclasses.asdict(lineage))


def read_lineage(folder: Path) -> Lineage | None:
    """Read ``folder/nomoat.json``; ``None`` where the folder has none (a foreign PEFT folder, say)."""
    path = folder / LINEAGE_FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(Lineage)}
        values = {key: value for key, value in values.items() if key in known}
        values["parents"] = tuple(Parent(**parent) for parent in values.get("parents", ()))
        return Lineage(**values)
    except (ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise FormatError(f"not a lineage record: {error}", file=path) from error


class Store:
    """The artefacts of one home folder."""

    def __init__(self, home: Path | str | None = None) -> None:
        chosen = home or os.environ.get("NOMOAT_HOME") or Path.home() / ".nomoat"
        self.home = Path(chosen).expanduser().absolute()

    def path(self, kind: Kind, name: str) -> Path:
        """Where an artefact of that name lives or would live. Raises ``UsageError`` on a bad name."""
        if not _NAME.fullmatch(name) or name.endswith("."):
            raise UsageError(
                f"{name!r} cannot be a name",
                hint="use letters, digits, '.', '_' and '-', and begin with a letter or a digit",
            )
        return self.home / kind / name

    def names(self, kind: Kind) -> list[str]:
        """The names of all whole artefacts of a kind, sorted."""
        folder = self.home / kind
        with disk_errors(folder):
            if not folder.is_dir():
                return []
            return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))

    def find(self, kind: Kind, name: str) -> Path:
        """The folder of an existing artefact. Raises ``NotFound`` with near matches and the mend."""
        path = self.path(kind, name)
        if path.is_dir():
            return path
        one = {"bases": "base", "data": "data set", "adapters": "adapter", "models": "model", "runs": "run"}
        raise NotFound(
            f"no {one[kind]} named {name!r} in {self.home}{self.meant(name, kind)}",
            hint=_HINT_FOR_MISSING.get(kind, "nomoat ls").format(name=name),
        )

    def find_data(self, word: str) -> Path:
        """A data set, where the word might have been a file. Raises ``NotFound`` that says so."""
        if word in self.names("data"):
            return self.path("data", word)
        raise NotFound(
            f"{word}: neither a file nor a data set of {self.home}{self.meant(word, 'data')}",
            hint="nomoat ls --kind data lists the data sets",
        )

    def meant(self, word: str, kind: Kind) -> str:
        """``"; did you mean chat?"`` where artefacts have names like this word; else nothing."""
        near = difflib.get_close_matches(word, self.names(kind), n=3)
        return f"; did you mean {', '.join(near)}?" if near else ""

    @contextlib.contextmanager
    def writing(self, kind: Kind, name: str, *, replace: bool = False) -> Iterator[Path]:
        """Give a temporary folder that becomes the artefact when the block ends well."""
        target = self.path(kind, name)
        if target.exists() and not replace:
            raise UsageError(
                f"{kind}/{name} exists already",
                hint="choose another --name, or pass --replace to put it aside",
            )
        with atomic_folder(target) as folder:
            yield folder

    def remove(self, kind: Kind, name: str) -> None:
        """Delete an artefact for good."""
        path = self.find(kind, name)
        with disk_errors(path):
            shutil.rmtree(path)
