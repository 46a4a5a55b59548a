"""Our schedules against those of transformers."""

from __future__ import annotations

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.train.schedule import SCHEDULES, factor, warmup_steps

_THEIR_NAME = {"constant": "constant_with_warmup"}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(100, 0), (100, 7), (10, 10), (1, 0), (3, 1)])
def test_every_step_has_the_rate_that_transformers_gives(schedule: str, total: int, warmup: int) -> None:
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = _THEIR_NAME.get(schedule, schedule)
    reference = transformers.get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    for step in range(total):
        assert factor(schedule, step, total, warmup) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_a_part_of_a_warm_up_step_counts_as_one() -> None:
    assert [warmup_steps(100, share) for share in (0.0, 0.03, 0.031)] == [0, 3, 4]


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        factor("step", 0, 10, 0)
    assert "cosine" in caught.value.hint
