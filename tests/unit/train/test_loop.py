"""The loop on a small regression: it knows nothing of language models, so neither does this file."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nomoat.core.errors import Interrupted, NumericError
from nomoat.core.records import Eval, Record, Step
from nomoat.train.loop import LoopOptions, train
from nomoat.train.state import Cursor, HeldOut, Snapshot, StepBatch, Task
from outcome import heard, notes

Piece = tuple[Tensor, Tensor]
OPTIONS = LoopOptions(steps=20, lr=0.3, eval_every=5)


class Regression:
    """Batches of noisy rows, 8 a step in pieces of ``piece``; held-out losses can be dictated."""

    def __init__(self, *, piece: int = 8, held_out: list[float] | None = None, poison: int = -1) -> None:
        self.piece, self.poison = piece, poison
        self.dictated = list(held_out or [])
        generator = torch.Generator().manual_seed(0)
        self.truth = torch.randn(5, 1, generator=generator)
        self.parameters = {"w": torch.nn.Parameter(torch.zeros(5, 1)), "b": torch.nn.Parameter(torch.zeros(1))}

    def take(self, cursor: Cursor) -> tuple[StepBatch[Piece], Cursor]:
        generator = torch.Generator().manual_seed(100 + cursor.position)
        x = torch.randn(8, 5, generator=generator)
        y = x @ self.truth + 0.1 * torch.randn(8, 1, generator=generator)
        if cursor.position == self.poison:
            y[3] = math.nan
        pieces = list(zip(x.split(self.piece), y.split(self.piece)))
        rows = tuple(f"row {cursor.position * 8 + i}" for i in range(8))
        return StepBatch(pieces, 8, 40, rows), Cursor(0, cursor.position + 1)

    def loss(self, piece: Piece) -> Tensor:
        x, y = piece
        return (x @ self.parameters["w"] + self.parameters["b"] - y).square().sum()

    @torch.no_grad()
    def evaluate(self) -> HeldOut:
        if self.dictated:
            return HeldOut(self.dictated.pop(0), 10)
        return HeldOut((self.parameters["w"] - self.truth).square().mean().item(), 10)

    def task(self) -> Task[Piece]:
        return Task(self.parameters, self, self.loss, self.evaluate)


class Memory:
    """A keeper that holds deep copies of every snapshot; always due."""

    resume_command = "go on"

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def due(self) -> bool:
        return True

    def save(self, snapshot: Snapshot) -> None:
        copies: dict[str, Any] = {
            part: {name: value.detach().clone() for name, value in values.items()}
            for part, values in (
                ("parameters", snapshot.parameters),
                ("moments", snapshot.moments),
                ("best", snapshot.best),
            )
        }
        self.snapshots.append(Snapshot(snapshot.state, **copies))


def test_it_learns_and_tells_every_step_and_measurement() -> None:
    problem = Regression()
    records, outcome = heard(train(problem.task(), OPTIONS))
    steps = [record for record in records if isinstance(record, Step)]
    evals = [record for record in records if isinstance(record, Eval)]
    assert [step.step for step in steps] == list(range(1, 21))
    assert [record.step for record in evals] == [0, 5, 10, 15, 20]
    assert evals[-1].loss < 0.1 * evals[0].loss
    assert outcome.state.tokens == 20 * 40 and not outcome.stopped_early
    assert steps[-1].remaining_s == 0 and steps[0].remaining_s > 0


@pytest.mark.parametrize("piece", [1, 3])
def test_a_step_in_pieces_is_the_step_in_one(piece: int) -> None:
    whole, cut = Regression(), Regression(piece=piece)
    first, _ = heard(train(whole.task(), OPTIONS))
    second, _ = heard(train(cut.task(), OPTIONS))
    losses = [[r.loss for r in records if isinstance(r, Step)] for records in (first, second)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in whole.parameters.items():
        torch.testing.assert_close(value, cut.parameters[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", range(0, 21, 4))
def test_going_on_from_any_snapshot_ends_with_the_same_bytes(stop: int) -> None:
    keeper, straight = Memory(), Regression()
    heard(train(straight.task(), OPTIONS, keeper=keeper))
    snapshot = next(s for s in keeper.snapshots if s.state.step == min(stop, 19))
    again = Regression()
    heard(train(again.task(), OPTIONS, start=snapshot))
    assert all(torch.equal(value, again.parameters[name]) for name, value in straight.parameters.items())


def test_closing_it_anywhere_leaves_a_snapshot_that_goes_on_to_the_same_bytes() -> None:
    straight = Regression()
    whole, _ = heard(train(straight.task(), OPTIONS))
    for n_records in range(1, len(whole)):
        keeper, problem = Memory(), Regression()
        records = train(problem.task(), OPTIONS, keeper=keeper)
        for _ in range(n_records):
            next(records)
        records.close()
        again = Regression()
        rest, _ = heard(train(again.task(), OPTIONS, start=keeper.snapshots[-1]))
        assert len(keeper.records) + len(rest) == len(whole)
        assert all(torch.equal(value, again.parameters[name]) for name, value in straight.parameters.items())


def test_the_best_held_out_parameters_are_the_result() -> None:
    problem, keeper = Regression(held_out=[1.0, 0.5, 0.2, 0.3, 0.4]), Memory()
    _, outcome = heard(train(problem.task(), OPTIONS, keeper=keeper))
    at_best = next(s for s in keeper.snapshots if s.state.step == 10)
    assert outcome.state.best_step == 10 and outcome.state.best_loss == 0.2
    assert all(torch.equal(problem.parameters[name], at_best.parameters[name]) for name in problem.parameters)


def test_it_stops_early_when_patience_is_out_and_keeps_the_best() -> None:
    problem = Regression(held_out=[1.0, 0.5, 0.6, 0.5, 0.1])
    records, outcome = heard(train(problem.task(), dataclasses.replace(OPTIONS, patience=2)))
    assert outcome.stopped_early and outcome.state.step == 15 and outcome.state.best_step == 5
    assert any("stopped early after step 15 of 20" in text for text in notes(records))


def test_a_loss_that_is_not_a_number_stops_it_with_the_rows_named() -> None:
    problem, keeper = Regression(poison=7), Memory()
    records = train(problem.task(), OPTIONS, keeper=keeper)
    with pytest.raises(NumericError, match=r"step 8: the loss is nan; the rows .* row 56, .* row 63"):
        heard(records)
    assert keeper.snapshots[-1].state.step <= 7
    assert all(torch.isfinite(value).all() for value in problem.parameters.values())


def test_a_gradient_that_is_not_finite_stops_it_before_the_update() -> None:
    problem = Regression()

    def loss(piece: Piece) -> Tensor:
        return torch.sqrt(problem.loss(piece) * 0)  # 0, with an infinite slope

    with pytest.raises(NumericError, match="step 1: the gradient is nan"):
        heard(train(dataclasses.replace(problem.task(), loss=loss), OPTIONS))
    assert all((value == 0).all() for value in problem.parameters.values())


def test_control_c_inside_a_step_leaves_the_state_before_it() -> None:
    problem, keeper = Regression(), Memory()
    calls = 0

    def loss(piece: Piece) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return problem.loss(piece)

    with pytest.raises(Interrupted) as caught:
        heard(train(dataclasses.replace(problem.task(), loss=loss), OPTIONS, keeper=keeper))
    assert caught.value.hint == "go on" and keeper.snapshots[-1].state.step == 7


def test_control_c_thrown_in_from_outside_is_the_same() -> None:
    keeper = Memory()
    records = train(Regression().task(), OPTIONS, keeper=keeper)
    for _ in range(4):
        next(records)
    with pytest.raises(Interrupted, match="after step 3"):
        records.throw(KeyboardInterrupt())
    assert keeper.snapshots[-1].state.step == 3


@pytest.mark.parametrize("clip", [1e-3, 0.0])
def test_the_gradient_is_clipped_to_its_norm(clip: float) -> None:
    keeper = Memory()
    records, _ = heard(train(Regression().task(), dataclasses.replace(OPTIONS, clip=clip), keeper=keeper))
    told = next(record.grad_norm for record in records if isinstance(record, Step))
    after_one = next(snapshot for snapshot in keeper.snapshots if snapshot.state.step == 1)
    means = [value for name, value in after_one.moments.items() if name.startswith("mean.")]
    used = 10 * torch.cat([mean.flatten() for mean in means]).norm().item()  # the mean is a tenth of the gradient
    assert told > 1.0  # the norm before clipping
    assert used == pytest.approx(clip or told, rel=1e-3)
