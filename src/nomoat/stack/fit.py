"""Coefficients learned in the one training loop: made ready, timed, then as many steps as were planned."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor, nn

from nomoat.core.records import Eval, Note, Progress, Record, Step
from nomoat.engine.names import Worn
from nomoat.engine.score import PACK_TOKENS, score
from nomoat.kernels import native
from nomoat.kernels.memory import Pool
from nomoat.kernels.quick import quick_products
from nomoat.model.adapters import adaptable
from nomoat.model.decoder import Decoder
from nomoat.model.load import Base
from nomoat.model.precision import use_bfloat16, use_float32
from nomoat.stack.grid import Grid, Shares, from_shares, grid_of
from nomoat.stack.options import CORE
from nomoat.stack.skill_loss import Gain, coefficient_task
from nomoat.stack.skills import Skill
from nomoat.train.learner import Learner, LoopOptions
from nomoat.train.loop import apart, train_together
from nomoat.train.precision import COSINE
from nomoat.train.state import Cursor

MEASUREMENTS = 8  # of the rows held back, in a whole run
_PATIENCE = 3  # measurements without improvement
_RATE, _CORE_RATE = 0.1, 0.02  # of AdamW: about how far one step moves a coefficient; those of a core act together
_LEAST_GAIN = 1e-3  # nats a token; a skill that gains less has nothing to keep


@dataclasses.dataclass(frozen=True, slots=True)
class Fitting:
    """Coefficients about to be learned, in bfloat16 where ``rounded``.

    ``step_s``: seconds of one step; ``pass_s``: of one look at all rows by quick products.
    """

    base: Base
    grid: Grid
    gains: tuple[Gain, ...]
    rounded: bool
    seed: int
    step_s: float
    pass_s: float


def prepare(
    base: Base, worn: Worn, grain: str, measured: Sequence[tuple[Skill, float]], *, seed: int = 0
) -> Generator[Record, None, Fitting | None]:
    """Make ready and time a step. ``measured``: the skills with what each one's own adapter gains, in nats a token.

    ``None`` where no skill gains anything. On a processor with tiles steps are taken in bfloat16, if the slope of the
    first then points where float32's does.
    """
    own = {adapter.name: ((adapter, weight),) for adapter, weight in worn}
    gains, began = [], time.perf_counter()
    for done, (skill, gain) in enumerate(measured, start=1):
        if gain > _LEAST_GAIN:
            with quick_products():
                alone = tuple(-one.total for one in score(base, skill.rows, own[skill.adapter]))
            gains.append(Gain(skill.rows, alone, gain))
        yield Progress("each row under its own adapter", done, len(measured), "skills")
    pass_s = time.perf_counter() - began
    if not gains:
        return None
    grid = grid_of([adapter for adapter, _ in worn], grain, adaptable(base.decoder))
    fitting = Fitting(base, grid, tuple(gains), False, seed, 0.0, pass_s)
    start = from_shares(grid, [dict.fromkeys(updates, weight) for updates, (_, weight) in zip(grid.updates, worn)])
    exact, seconds = _slope(fitting, start)
    if not native.has_tiles():
        return dataclasses.replace(fitting, step_s=seconds)
    quick = dataclasses.replace(fitting, rounded=True)
    _slope(quick, start)  # the first run of all warms caches
    rounded, seconds_rounded = _slope(quick, start)
    cosine = float(torch.cosine_similarity(exact.double(), rounded.double(), 0))
    if cosine < COSINE:
        yield Note(f"bfloat16 turns the slope of the weights (cosine {cosine:.4f}): learning them in float32")
        return dataclasses.replace(fitting, step_s=seconds)
    return dataclasses.replace(quick, step_s=seconds_rounded)


def fit(fitting: Fitting, shares: Shares, *, steps: int, deadline: float) -> Generator[Progress, None, Tensor | None]:
    """Learn coefficients (count,) from ``shares`` on, until ``time.perf_counter()`` is past ``deadline`` at most.

    ``None`` where the rows that were held back are no better off than before.
    """
    values = nn.Parameter(from_shares(fitting.grid, shares))
    task = coefficient_task(
        fitting.base, fitting.grid, values, fitting.gains, pack_tokens=PACK_TOKENS, seed=fitting.seed
    )
    every = max(1, -(-steps // MEASUREMENTS))
    rate = _CORE_RATE if fitting.grid.grain == CORE else _RATE
    learner = Learner(task, LoopOptions(steps, rate, warmup=0.0, eval_every=every, patience=_PATIENCE))
    with _arithmetic(fitting):
        for record in train_together([learner], apart):
            if isinstance(record, Step):
                yield Progress("learning weights", record.step, steps, "steps")
            if isinstance(record, Step | Eval) and time.perf_counter() > deadline:
                break
    state = learner.finish().state
    if state.best_loss is None or state.before_loss is None:
        return values.detach() if task.evaluate is None and state.step else None
    return values.detach() if state.best_loss < state.before_loss else None


def _slope(fitting: Fitting, at: Tensor) -> tuple[Tensor, float]:
    """The derivative of the first step's loss by every coefficient (count,), and the seconds that took."""
    values = nn.Parameter(at.clone())
    task = coefficient_task(
        fitting.base, fitting.grid, values, fitting.gains, pack_tokens=PACK_TOKENS, seed=fitting.seed
    )
    batch, _ = task.batches.take(Cursor())
    with _arithmetic(fitting), Pool():
        begun = time.perf_counter()
        task.loss(batch.pieces[0]).backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - begun
    assert values.grad is not None  # every coefficient stands in the sum
    return values.grad, seconds


@contextlib.contextmanager
def _arithmetic(fitting: Fitting) -> Iterator[None]:
    """Inside, steps are taken in the fitting's arithmetic."""
    decoder: Decoder = fitting.base.decoder
    if fitting.rounded:
        use_bfloat16(decoder)
    try:
        yield
    finally:
        use_float32(decoder)
