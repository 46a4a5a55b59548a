"""The data set that the student learns from: the rows as the old stack would have them, with what it thought."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Generator, Sequence
from pathlib import Path

from nomoat.core.errors import DataError, UsageError
from nomoat.core.records import Note, Record, Saved
from nomoat.core.store import Lineage, Store, read_lineage, write_lineage
from nomoat.data.rows import Row
from nomoat.engine.names import CACHE_FOLDER
from nomoat.move.aside import write_splits
from nomoat.move.choice import choose
from nomoat.move.relocation import Choice, Relocation
from nomoat.move.thoughts import Thought, thoughts
from nomoat.move.words import answered
from nomoat.train.distil import TEACHER_FILE, write_targets
from nomoat.train.parents import derived_licence

_LEARNED = ("train", "valid")


def write_lesson(moving: Relocation, store: Store) -> Generator[Record, None, Relocation]:
    """``data/<name>-rows``, or the one of an earlier start that is made of the same; returns the move, all decided.

    Its test rows are those of the skills, with their own answers. Raises ``DataError`` where no row is left,
    ``UsageError`` where something else has the name.
    """
    folder = store.path("data", moving.lesson)
    if folder.exists():
        lineage = read_lineage(folder)
        if lineage is not None and lineage.details.get("digest") == moving.digest:
            yield Note(f"what the old stack says is there from before: data/{moving.lesson}")
            choice = lineage.details.get("choice")
            return moving.decided(Choice(**choice)) if choice else moving
        if not moving.options.replace:
            raise UsageError(
                f"there is a data set {moving.lesson!r} already, made of something else",
                hint="choose another --name, or pass --replace",
            )
    notes = store.home / CACHE_FOLDER / f"answers-{moving.digest[:32]}.jsonl"
    splits: dict[str, list[Row]] = {}
    for split in _LEARNED:
        splits[split] = yield from _rows(moving, split, notes.with_suffix(f".{split}"))
    if moving.learn == "auto":
        moving = moving.decided((yield from choose(moving, splits["train"], rows_of(moving, "valid"))))
    thought: list[Thought] = []
    if moving.learn != "words":
        for split in _LEARNED:
            found = yield from thoughts(moving, splits[split])
            splits[split] = [splits[split][one.number] for one in found]
            thought += found
    if not splits["train"]:
        raise DataError("of all the old stack's answers not one can be learned", hint="--answers rows")
    splits["test"] = [row for skill in moving.skills for row in skill.splits["test"]]
    _write(moving, store, splits, thought)
    for split in _LEARNED:
        notes.with_suffix(f".{split}").unlink(missing_ok=True)
    yield Saved(folder, "data set")
    return moving


def rows_of(moving: Relocation, split: str) -> list[Row]:
    """As many rows of each skill as are asked for; a row of each in turn, so that the first few stand for all."""
    most = moving.options.rows if split == "train" else moving.options.eval_rows
    by_skill = [skill.splits[split][: most or None] for skill in moving.skills]
    return [row for turn in itertools.zip_longest(*by_skill) for row in turn if row is not None]


def _rows(moving: Relocation, split: str, notes: Path) -> Generator[Record, None, list[Row]]:
    rows = rows_of(moving, split) if split == "train" or moving.options.eval_rows else []
    if moving.options.answers == "rows" or not rows:
        return rows
    changed = yield from answered(moving, rows, notes)
    return [row for row in changed if row is not None]


def _write(moving: Relocation, store: Store, splits: dict[str, list[Row]], thought: Sequence[Thought]) -> None:
    with store.writing("data", moving.lesson, replace=moving.options.replace) as folder:
        write_splits(folder, splits)
        if thought:
            write_targets(folder / TEACHER_FILE, [one.student for one in thought], (one.target for one in thought))
        write_lineage(folder, _lineage(moving, splits))


def _lineage(moving: Relocation, splits: dict[str, list[Row]]) -> Lineage:
    """Parents and licence: the old base, its adapters and the rows, since the answers come of all of them."""
    origins = (*moving.origins, *(skill.origin for skill in moving.skills))
    return Lineage(
        kind="data",
        name=moving.lesson,
        licence=derived_licence(*(origin.licence for origin in origins)),
        parents=tuple(origin.parent for origin in origins),
        options=dataclasses.asdict(moving.options),
        metrics={split: len(rows) for split, rows in splits.items()},
        details={
            "digest": moving.digest,
            "learn": moving.learn,
            "choice": None if moving.choice is None else dataclasses.asdict(moving.choice),
        },
        seed=moving.options.seed,
    )
