"""One adapter on its way through a run: what its next step is made of, its update, its measurements, its snapshots.

Every decision depends on the state alone, never on the clock, except when to write a snapshot. So a run that goes on
from a snapshot ends with the same bytes, and several that take their steps side by side do not know of each other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Generic

import torch
from torch import Tensor

from nomoat.core.errors import NumericError
from nomoat.core.records import Eval, Note, Record, Step
from nomoat.train.adamw import AdamW, AdamWOptions
from nomoat.train.clock import Clock
from nomoat.train.schedule import factor, warmup_steps
from nomoat.train.state import Cursor, HeldOut, Keeper, Outcome, P, Snapshot, State, StepBatch, Task


@dataclasses.dataclass(frozen=True, slots=True)
class LoopOptions:
    """``warmup`` is a fraction of ``steps``; ``clip`` and ``patience`` are off at 0; ``eval_every`` in steps."""

    steps: int
    lr: float
    schedule: str = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 1.0
    eval_every: int = 0
    patience: int = 0


class Learner(Generic[P]):
    """``tell`` may put a record into other words for whoever watches; the keeper's log gets it as it is.

    ``name`` tells several that learn side by side apart.
    """

    def __init__(
        self,
        task: Task[P],
        options: LoopOptions,
        *,
        keeper: Keeper | None = None,
        start: Snapshot | None = None,
        tell: Callable[[Record], Record] | None = None,
        name: str = "",
    ) -> None:
        self.task, self.options, self.keeper, self.name = task, options, keeper, name
        self.optimizer = AdamW(
            task.parameters,
            AdamWOptions(options.beta1, options.beta2, options.eps, options.weight_decay, task.lr_scale),
        )
        self.warmup = warmup_steps(options.steps, options.warmup)
        self.state, self.best = State(), dict[str, Tensor]()
        self.saved: State | None = None
        self.train_loss = math.nan
        self.updating = self.over = False
        self._tell = tell
        self._lr, self._next = 0.0, Cursor()
        if start is not None:
            self._restore(start)
        self._clock = Clock(self.state.elapsed_s, self.state.cpu_s)

    @torch.no_grad()
    def _restore(self, start: Snapshot) -> None:
        for name, parameter in self.task.parameters.items():
            parameter.copy_(start.parameters[name])
        self.optimizer.load(start.moments, updates=start.state.step)
        self.best = {name: value.clone() for name, value in start.best.items()}
        self.state = self.saved = start.state

    @property
    def resume_command(self) -> str:
        """What goes on from the last snapshot; empty where none are kept."""
        return self.keeper.resume_command if self.keeper is not None else ""

    def between_steps(self) -> Iterator[Record]:
        """Measure and save where it is due; sets ``over`` where no step is to follow."""
        if self.over:
            return
        if self._eval_due():
            yield self._told(self._evaluate())
        self.over = self._stopped_early() or self.state.step >= self.options.steps
        if self._stopped_early():
            yield self._told(self._why_early())
        elif not self.over and self._save_due():
            self._save()

    def _told(self, record: Record) -> Record:
        if self.keeper is not None:
            self.keeper.write(record)
        return record if self._tell is None else self._tell(record)

    # -- one step

    def take(self) -> StepBatch[P]:
        """The rows of the next step; whoever asks adds their gradient and then calls ``update``."""
        self._clock.start_lap()
        batch, self._next = self.task.batches.take(self.state.cursor)
        self._lr = self.options.lr * factor(self.options.schedule, self.state.step, self.options.steps, self.warmup)
        self.optimizer.zero_grad()
        return batch

    def update(self, batch: StepBatch[P], loss: float) -> Record:
        """Move the parameters along the gradient that stands; ``loss`` is the mean over the step."""
        if self.task.penalty is not None:
            self.task.penalty().backward()  # type: ignore[no-untyped-call]
        norm = self._clip(batch)
        # From here to the new state an interruption finds parameters that belong to no step; see leave_snapshot.
        self.updating = True
        self.optimizer.update(self._lr)
        elapsed_s, cpu_s = self._clock.totals()
        self.state = dataclasses.replace(
            self.state,
            step=self.state.step + 1,
            cursor=self._next,
            tokens=self.state.tokens + batch.tokens,
            elapsed_s=elapsed_s,
            train_s=self.state.train_s + self._clock.lap_s(),
            cpu_s=cpu_s,
        )
        self.updating = False
        self.optimizer.zero_grad()
        self.train_loss = loss
        return self._told(self._step_record(loss, norm, batch.tokens))

    def _clip(self, batch: StepBatch[P]) -> float:
        limit = self.options.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(list(self.task.parameters.values()), limit).item()
        if not math.isfinite(norm):
            raise self.not_a_number("gradient", norm, batch)
        return norm

    def not_a_number(self, what: str, value: float, batch: StepBatch[P]) -> NumericError:
        """The error that names the rows of the step."""
        rows = ", ".join(batch.rows)
        return NumericError(
            f"step {self.state.step + 1}: the {what} is {value}; the rows of this step are {rows}",
            hint="look at these rows, or lower --lr and start again",
        )

    def _step_record(self, loss: float, norm: float, tokens: int) -> Step:
        rate, remaining_s = self._clock.step_done(tokens, self._steps_left(), self._evals_left())
        state = self.state
        total = self.options.steps
        return Step(state.step, total, loss, self._lr, norm, tokens, rate, state.elapsed_s, remaining_s)

    def _steps_left(self) -> int:
        return self.options.steps - self.state.step

    def _evals_left(self) -> int:
        if self.task.evaluate is None or not self._steps_left():
            return 0
        every = self.options.eval_every or self.options.steps
        return math.ceil(self.options.steps / every) - (self.state.step - 1) // every

    # -- held-out rows

    def _eval_due(self) -> bool:
        step, every = self.state.step, self.options.eval_every
        at_mark = step in (0, self.options.steps) or (every > 0 and step % every == 0)
        return self.task.evaluate is not None and at_mark and self.state.evaluated != step

    def _evaluate(self) -> Eval:
        assert self.task.evaluate is not None
        self._clock.start_lap()
        held_out = self.task.evaluate()
        self._clock.eval_done()
        if not math.isfinite(held_out.loss):
            raise NumericError(f"after step {self.state.step} the held-out loss is {held_out.loss}", hint="lower --lr")
        is_best = self._note_result(held_out)
        return Eval(self.state.step, held_out.loss, held_out.tokens, best=is_best)

    def _note_result(self, held_out: HeldOut) -> bool:
        state, loss = self.state, held_out.loss
        elapsed_s, cpu_s = self._clock.totals()
        state = dataclasses.replace(state, evaluated=state.step, elapsed_s=elapsed_s, cpu_s=cpu_s)
        if state.step == 0:
            self.state = dataclasses.replace(state, before_loss=loss)
            return False
        if state.best_loss is not None and loss >= state.best_loss:
            self.state = dataclasses.replace(state, evals_since_best=state.evals_since_best + 1)
            return False
        best = {name: value.detach().clone() for name, value in self.task.parameters.items()}
        self.updating = True
        self.best = best
        self.state = dataclasses.replace(state, best_loss=loss, best_step=state.step, evals_since_best=0)
        self.updating = False
        return True

    def _stopped_early(self) -> bool:
        patience = self.options.patience
        return 0 < patience <= self.state.evals_since_best and self.state.step < self.options.steps

    def _why_early(self) -> Note:
        return Note(
            f"stopped early after step {self.state.step} of {self.options.steps}: the held-out loss has not "
            f"improved in {self.state.evals_since_best} measurements"
        )

    @torch.no_grad()
    def finish(self) -> Outcome:
        """Put the best parameters in place."""
        for name, value in self.best.items():
            self.task.parameters[name].copy_(value)
        return Outcome(self.state, self._stopped_early(), self.train_loss)

    # -- snapshots

    def _save_due(self) -> bool:
        if self.keeper is None or self.saved == self.state:
            return False
        return self.saved is None or self.state.evaluated == self.state.step or self.keeper.due()

    def _save(self) -> None:
        assert self.keeper is not None
        parameters = {name: value.data for name, value in self.task.parameters.items()}
        self.keeper.save(Snapshot(self.state, parameters, self.optimizer.state(), self.best))
        self.saved = self.state

    def leave_snapshot(self) -> None:
        """Save where the run stands, unless it was cut in the middle of an update: then the last one serves."""
        if self.keeper is not None and not self.updating and self.saved != self.state:
            self._save()
