"""Where a run stands, and what a method hands to the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from nomoat.core.records import Record

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """The place in the data: ``position`` rows of epoch number ``epoch`` are used."""

    epoch: int = 0
    position: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class StepBatch(Generic[P_co]):
    """What one optimiser step learns from.

    ``pieces`` are run one after the other, their gradients add up. The step's loss is the sum of the pieces'
    losses over ``count``: learned tokens in supervised tuning, pairs in preference tuning. ``tokens`` are all
    the tokens that pass through the model. ``rows`` name the rows, for the message when something goes wrong.
    """

    pieces: Sequence[P_co]
    count: int
    tokens: int
    rows: tuple[str, ...]


class Batches(Protocol[P_co]):
    """A source of steps. ``take`` is a pure function of the cursor, which is all that a checkpoint keeps."""

    def take(self, cursor: Cursor) -> tuple[StepBatch[P_co], Cursor]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out measurement: mean loss in nats over ``tokens`` learned tokens."""

    loss: float
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class Task(Generic[P]):
    """A training method, as the loop sees it.

    ``loss`` returns the *summed* loss of a piece, differentiable in ``parameters``; the loop divides by the
    step's count and runs the backward pass. ``lr_scale`` multiplies the rate of the parameters it names. ``penalty``
    is added to each step's loss, once, whatever its rows are.
    """

    parameters: Mapping[str, torch.nn.Parameter]
    batches: Batches[P]
    loss: Callable[[P], Tensor]
    evaluate: Callable[[], HeldOut] | None = None
    lr_scale: Mapping[str, float] = dataclasses.field(default_factory=dict)
    penalty: Callable[[], Tensor] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """Everything of a run that is not a tensor. ``evaluated`` is the last step that was measured; -1: none.

    ``elapsed_s`` is wall time, measurements included; ``train_s`` the steps alone; ``cpu_s`` of all threads.
    """

    step: int = 0
    cursor: Cursor = Cursor()
    evaluated: int = -1
    before_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    evals_since_best: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    train_s: float = 0.0
    cpu_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at a moment between two updates, whole: going on from it gives the same bytes."""

    state: State
    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    best: Mapping[str, Tensor]


class Keeper(Protocol):
    """Where records and snapshots go. ``resume_command`` is what the user types to go on from the last one."""

    @property
    def resume_command(self) -> str: ...

    def write(self, record: Record) -> None: ...

    def due(self) -> bool: ...

    def save(self, snapshot: Snapshot) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. The parameters hold the values of ``best_step`` where held-out rows chose one."""

    state: State
    stopped_early: bool
    last_train_loss: float
