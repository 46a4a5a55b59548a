"""What becomes of the student: its own name where every skill has passed, else apart, and marked."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.core.errors import NotFound
from nomoat.core.files import atomic_write, disk_errors, write_json
from nomoat.core.store import LINEAGE_FILE, Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.model.adapters import Adapter
from nomoat.move.relocation import Relocation
from nomoat.train.artefact import CARD_FILE, card

RESULT_FILE = "result.json"


def settle(moving: Relocation, adapter: Adapter, table: Sequence[Mapping[str, Any]], store: Store) -> Path:
    """Give the student its name, or leave it as unproven; either way it says what was kept. The old stack stays."""
    passed = all(line["passed"] for line in table)
    apart = store.find("adapters", moving.unproven)
    lineage = _lineage(moving, apart, table, passed)
    words = f"{card(lineage, adapter, moving.new)}\n{_retention(moving, table)}"
    if not passed:
        write_lineage(apart, lineage)
        atomic_write(apart / CARD_FILE, words)
        return apart
    with store.writing("adapters", moving.name, replace=moving.options.replace) as folder:
        for file in sorted(apart.iterdir()):
            if file.is_file() and file.name not in (LINEAGE_FILE, CARD_FILE):
                with disk_errors(folder):
                    shutil.copyfile(file, folder / file.name)
        atomic_write(folder / CARD_FILE, words)
        write_lineage(folder, lineage)
    store.remove("adapters", moving.unproven)
    return store.path("adapters", moving.name)


def _lineage(moving: Relocation, apart: Path, table: Sequence[Mapping[str, Any]], passed: bool) -> Lineage:
    """That of the tune, with the old stack among the parents, and what is left of each skill."""
    tuned = read_lineage(apart)
    if tuned is None:
        raise NotFound(f"{apart} has no record of its making", hint=f"nomoat rm adapters/{apart.name}, then move again")
    kept = [
        {key: line[key] for key in ("skill", "unit", "rows", "old_stack", "moved", "kept", "passed")} for line in table
    ]
    _, *adapters = (origin.parent for origin in moving.origins)
    old = [parent for parent in adapters if parent not in tuned.parents]
    return dataclasses.replace(
        tuned,
        name=moving.name if passed else moving.unproven,
        parents=(*tuned.parents, *old),
        metrics={**tuned.metrics, "retention": kept},
        details={
            **tuned.details,
            "moved": {
                "stack": moving.options.stack,
                "old_base": moving.old.name,
                "learned": moving.learn,
                "choice": None if moving.choice is None else dataclasses.asdict(moving.choice),
                "keep": moving.options.keep,
                "passed": passed,
            },
        },
    )


def _retention(moving: Relocation, table: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"Moved here from `{moving.options.stack}`. What is left of each skill's gain over {moving.old.name}:",
        "",
        "| skill | rows | kept | 95 % interval | passed |",
        "|---|---|---|---|---|",
    ]
    for line in table:
        kept = line["kept"]
        value = "no gain to keep" if kept["value"] is None else f"{kept['value']:.1%}"
        bounds = "" if kept["low"] is None else f"{kept['low']:.1%} to {kept['high']:.1%}"
        lines.append(f"| {line['skill']} | {line['rows']} | {value} | {bounds} | {'yes' if line['passed'] else 'no'} |")
    return "\n".join(lines) + "\n"


def save_result(moving: Relocation, result: Mapping[str, Any], store: Store) -> Path:
    """Write ``runs/move-<name>``; a later move of the same name takes its place."""
    name = f"move-{moving.name}"[:100].rstrip("-.")
    parents = (Parent("base", moving.new.name, ""), *(origin.parent for origin in moving.origins[1:]))
    lineage = Lineage(
        kind="run",
        name=name,
        parents=parents,
        options=dataclasses.asdict(moving.options),
        metrics={"passed": result["passed"]},
        seed=moving.options.seed,
    )
    with store.writing("runs", name, replace=True) as folder:
        write_json(folder / RESULT_FILE, dict(result))
        write_lineage(folder, lineage)
    return store.path("runs", name)
