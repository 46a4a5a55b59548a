"""Our schedules against those of transformers."""

from __future__ import annotations

import pytest
import torch

from nomoat.train.schedule import SCHEDULES, factor

_THEIR_NAME = {"constant": "constant_with_warmup"}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(100, 0), (100, 7), (10, 10), (1, 0), (3, 1)])
def test_every_step_has_the_rate_that_transformers_gives(schedule: str, total: int, warmup: int) -> None:
    optimization = pytest.importorskip("transformers.optimization")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = _THEIR_NAME.get(schedule, schedule)
    reference = optimization.get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    for step in range(total):
        assert factor(schedule, step, total, warmup) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()
