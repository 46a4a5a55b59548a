"""What the stages of an evening said: kept for the receipt, and on disk for an evening that is stopped.

``$NOMOAT_HOME/evenings/<name>.json`` is written after every stage and goes when the receipt is there.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nomoat.core.errors import FormatError, NotFound
from nomoat.core.files import disk_errors, write_json
from nomoat.core.options import parse_values
from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store
from nomoat.evening.options import EveningOptions

FOLDER = "evenings"


@dataclasses.dataclass
class Diary:
    """Results, seconds and warnings by stage. ``runs_before``: the runs that were there when the evening began."""

    path: Path
    options: EveningOptions
    name: str
    data: str
    runs_before: list[str]
    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def keep(self, stage: str, records: Callable[[], Iterator[Record]]) -> Iterator[Record]:
        """Pass a stage's records on, and remember of them what comes later needs; a stage that is done is passed over.

        The stage's own last record is not passed on: the evening has one of its own.
        """
        if stage in self.results:
            return
        began = time.monotonic()
        try:
            for record in records():
                match record:
                    case Done():
                        self.results[stage] = record.result
                        continue
                    case Note(text, warning=True):
                        self.warnings.append(text)
                yield record
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began
            self.write()

    def write(self) -> None:
        """Put it on disk, whole."""
        values = {field.name: self.__dict__[field.name] for field in dataclasses.fields(self) if field.name != "path"}
        write_json(self.path, values | {"options": dataclasses.asdict(self.options)})

    def close(self) -> None:
        """The evening is over."""
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)


def diary_path(store: Store, name: str) -> Path:
    """Where the diary of the evening that makes the adapter ``name`` is."""
    return store.home / FOLDER / f"{name}.json"


def stopped(store: Store) -> list[str]:
    """Names of the evenings that were stopped, the latest first."""
    with disk_errors(store.home):
        found = sorted((store.home / FOLDER).glob("[!.]*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.stem for path in found]


def open_diary(store: Store, name: str) -> Diary:
    """The diary of that name, or the latest. Raises ``NotFound`` where no evening was stopped, ``FormatError``."""
    names = stopped(store)
    if not names or (name and name not in names):
        what = f"no evening called {name!r} was stopped" if name else "no evening was stopped"
        known = f"; these were: {', '.join(names)}" if names else ""
        raise NotFound(what + known, hint="nomoat evening starts one")
    path = diary_path(store, name or names[0])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        options = parse_values(EveningOptions, values.pop("options"), where=str(path))
        return Diary(path=path, options=options, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(
            f"not the diary of an evening: {error}", file=path, hint="nomoat evening starts again"
        ) from error
