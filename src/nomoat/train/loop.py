"""The one training loop: a generator of records over any (batches, loss), for one learner or several side by side.

It knows nothing of what is learned. In each round every learner that is not over takes a step: their gradients are
added, apart or in one forward pass for all (``gradients``), and each makes its own update. Closing the generator, or
Ctrl-C, leaves snapshots from which a run goes on to the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

from nomoat.core.errors import Interrupted
from nomoat.core.records import Record
from nomoat.kernels.memory import Pool
from nomoat.train.learner import Learner, LoopOptions
from nomoat.train.state import Keeper, Outcome, P, Snapshot, StepBatch, Task

__all__ = ["LoopOptions", "apart", "train", "train_together"]

# Adds the gradient of each step's mean loss to its learner's parameters, and returns these means.
Gradients = Callable[[Sequence[tuple[Learner[P], StepBatch[P]]]], list[float]]


def train(
    task: Task[P], options: LoopOptions, *, keeper: Keeper | None = None, start: Snapshot | None = None
) -> Generator[Record, None, Outcome]:
    """Run ``task`` for ``options.steps`` steps, from ``start`` where given; return how it ended.

    The task's parameters hold the result: the best held-out ones, or the last where nothing is held out.
    Raises ``NumericError`` with the rows of the step when a loss or gradient is not finite, ``Interrupted`` on Ctrl-C.
    """
    outcomes = yield from train_together([Learner(task, options, keeper=keeper, start=start)], apart)
    return outcomes[0]


def train_together(learners: Sequence[Learner[P]], gradients: Gradients[P]) -> Generator[Record, None, list[Outcome]]:
    """Run several learners to their ends, a step each in turn; one that ends earlier waits for the others."""
    pool = Pool()
    try:
        while True:
            for learner in learners:
                yield from learner.between_steps()
            steps = [(learner, learner.take()) for learner in learners if not learner.over]
            if not steps:
                return [learner.finish() for learner in learners]
            with pool:
                losses = gradients(steps)
            for (learner, batch), loss in zip(steps, losses):
                yield learner.update(batch, loss)
    except KeyboardInterrupt as stop:
        _leave_snapshots(learners)
        furthest = max(learner.state.step for learner in learners)
        raise Interrupted(f"stopped by you after step {furthest}", hint=learners[0].resume_command) from stop
    except GeneratorExit:
        _leave_snapshots(learners)
        raise


def _leave_snapshots(learners: Sequence[Learner[P]]) -> None:
    for learner in learners:
        learner.leave_snapshot()


def apart(steps: Sequence[tuple[Learner[P], StepBatch[P]]]) -> list[float]:
    """Gradients of one piece after the other."""
    return [_accumulate(learner, batch) for learner, batch in steps]


def _accumulate(learner: Learner[P], batch: StepBatch[P]) -> float:
    total = 0.0
    for piece in batch.pieces:
        loss = learner.task.loss(piece) / batch.count
        value = loss.item()
        if not math.isfinite(value):
            raise learner.not_a_number("loss", value, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        total += value
    return total
