"""General rows to mix into a tune, so that the base does not unlearn what the user's rows never ask for.

Rehearsal (Robins 1995, "Catastrophic Forgetting, Rehearsal and Pseudorehearsal"). Sources and licences of the rows:
``builtin/general/SOURCES.txt``. None of them stands in the texts and questions that forgetting is measured with.
"""

from __future__ import annotations

import json
from importlib.resources import files

from nomoat.core.errors import UsageError
from nomoat.data.pack import order
from nomoat.data.rows import Row

LICENCE = "Apache-2.0"


def how_many() -> int:
    """How many general rows there are."""
    return len(_lines())


def general_rows(count: int, *, seed: int) -> list[Row]:
    """``count`` of the built-in rows, drawn by the seed. Raises ``UsageError`` where there are fewer."""
    rows: list[Row] = [json.loads(line) for line in _lines()]
    if count > len(rows):
        raise UsageError(f"there are {len(rows)} general rows, not {count}", hint=f"--rehearse {len(rows)} or fewer")
    return [rows[number] for number in order(len(rows), seed=seed, epoch=0)[:count]]


def _lines() -> list[str]:
    return files("nomoat.data").joinpath("builtin", "general", "rows.jsonl").read_text(encoding="utf-8").splitlines()
