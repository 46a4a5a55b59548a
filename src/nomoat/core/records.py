"""What long work yields. The command line draws these as a progress bar or writes them as JSON lines.

A stage is a generator of records; closing the generator stops the work and leaves what resumes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the person watching: a decision, a guess and its reason, a warning."""

    text: str
    warning: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage without training steps is: a download, a hash, an evaluation."""

    stage: str
    done: float
    total: float | None
    unit: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step. ``loss`` is the mean over the step's learned tokens, in nats."""

    step: int
    total_steps: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    elapsed_s: float
    remaining_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Eval:
    """Held-out loss in nats per learned token, after ``step`` optimiser steps."""

    step: int
    loss: float
    tokens: int
    best: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One answer of the model, with what was asked and expected."""

    prompt: str
    expected: str
    before: str | None
    after: str | None
    correct_before: bool | None = None
    correct_after: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """An artefact or a checkpoint is on disk, whole."""

    path: Path
    what: str


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """The last record of a stage: its result as plain values."""

    what: str
    path: Path | None
    result: dict[str, Any]


Record = Note | Progress | Step | Eval | Sample | Saved | Done


def returned(work: Generator[R, None, T], hear: Callable[[R], object] | None = None) -> T:
    """Run a stage to its end and give what it returns; ``hear`` is called with every record on the way."""
    while True:
        try:
            record = next(work)
        except StopIteration as end:
            value: T = end.value
            return value
        if hear is not None:
            hear(record)


def quietly(work: Generator[Record, None, T]) -> Generator[Record, None, T]:
    """Of a stage inside another: progress and warnings; gives what the stage returns."""
    with contextlib.closing(work):
        while True:
            try:
                record = next(work)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(record, Progress) or (isinstance(record, Note) and record.warning):
                yield record


def as_json(record: Record) -> dict[str, Any]:
    """Return the record as JSON-ready values, its kind under ``"record"``."""
    values = {
        field.name: _plain(value)
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) is not None
    }
    return {"record": type(record).__name__.lower(), **values}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
