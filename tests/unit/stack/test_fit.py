"""Learning weights: a planted stack that needs more than one for each adapter, and the end of the time."""

from __future__ import annotations

import math
import time

import pytest
import torch

from adapters import strong_adapter
from nomoat.engine.generate import Engine, Request
from nomoat.engine.names import Worn
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import loss, score
from nomoat.model.adapters import Adapter, AdapterConfig, adaptable, layer_of
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.stack.coefficients import weighted
from nomoat.stack.fit import Fitting, fit
from nomoat.stack.grid import alike, from_shares, grid_of
from nomoat.stack.skill_loss import Gain, SkillBatches, lost_shares, piece_of, smooth_cost
from nomoat.train.state import Cursor
from outcome import outcome
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def adapters(base: Base) -> list[Adapter]:
    return [strong_adapter(base, AdapterConfig(rank=4), seed=seed, size=0.6) for seed in (1, 2)]


@pytest.fixture(scope="module")
def planted(base: Base, adapters: list[Adapter]) -> Worn:
    """What the rows are true of: the first adapter in layer 0 alone, the second in layer 1 alone."""
    grid = grid_of(adapters, "layer", adaptable(base.decoder))
    shares = [
        {module: float(layer_of(module) == own) for module in adapter.deltas} for own, adapter in enumerate(adapters)
    ]
    return weighted(grid, from_shares(grid, shares))


def answers(base: Base, worn: Worn, *, start: int) -> tuple[Encoded, ...]:
    """Rows that a stack wrote itself, so that no other one makes them likelier but by luck."""
    sampling = Sampling(temperature=1.0, seed=start, max_tokens=40)
    prompts = [[3 + (start + 31 * n) % 250, 3 + (start + 17 * n) % 250] for n in range(16)]
    requests = [Request(tokens=prompt, sampling=sampling, stack=worn) for prompt in prompts]
    written = Engine(base, max_batch=16).complete(requests)
    pairs = [(prompt, answer.tokens) for prompt, answer in zip(prompts, written)]
    return tuple(Encoded([*p, *own], [False] * len(p) + [True] * len(own)) for p, own in pairs)


@pytest.fixture(scope="module")
def gains(base: Base, planted: Worn) -> tuple[Gain, ...]:
    found = []
    for start in (0, 100):
        rows = answers(base, planted, start=start)
        alone = tuple(-one.total for one in score(base, rows, planted))
        found.append(Gain(rows, alone, loss(base, rows)[0] - loss(base, rows, planted)[0]))
    return tuple(found)


def fitting(base: Base, adapters: list[Adapter], gains: tuple[Gain, ...], grain: str) -> Fitting:
    return Fitting(
        base, grid_of(adapters, grain, adaptable(base.decoder)), gains, rounded=False, seed=0, step_s=0.0, pass_s=0.0
    )


def test_skills_that_collide_layer_by_layer_are_kept_by_a_weight_for_each_layer_and_not_for_each_adapter(
    base: Base, adapters: list[Adapter], gains: tuple[Gain, ...]
) -> None:
    costs = {}
    for grain in ("adapter", "layer", "module"):
        ready = fitting(base, adapters, gains, grain)
        values = outcome(fit(ready, alike(adapters, [0.5, 0.5]), steps=50, deadline=math.inf))[1]
        assert values is not None
        worn = weighted(ready.grid, values)
        kept = [1 - (loss(base, gain.rows, worn)[0] * n - sum(gain.alone)) / (n * gain.gain)
                for gain in gains if (n := sum(sum(row.loss_mask[1:]) for row in gain.rows))]  # fmt: skip
        costs[grain] = 1 - min(kept)
    assert costs["layer"] < 0.1 and costs["module"] < 0.15
    assert costs["adapter"] > 2 * max(costs["layer"], costs["module"]) and costs["adapter"] > 0.2


@pytest.mark.parametrize("grain", ["adapter", "direction"])
def test_the_weights_of_a_dora_are_learned_too(grain: str, base: Base, adapters: list[Adapter]) -> None:
    dora = strong_adapter(base, AdapterConfig(rank=4, use_dora=True), seed=3, size=0.6)
    rows = answers(base, ((dora, 1.0),), start=0)
    alone = tuple(-one.total for one in score(base, rows, ((dora, 1.0),)))
    gain = Gain(rows, alone, loss(base, rows)[0] - loss(base, rows, ((dora, 1.0),))[0])
    ready = fitting(base, [dora, adapters[0]], (gain,), grain)
    start = alike([dora, adapters[0]], [0.6, 0.6])
    values = outcome(fit(ready, start, steps=20, deadline=math.inf))[1]
    assert values is not None
    before, after = (loss(base, rows, weighted(ready.grid, at))[0] for at in (from_shares(ready.grid, start), values))
    assert after < before - 0.5 * (before - loss(base, rows, ((dora, 1.0),))[0])


def test_what_does_not_help_the_rows_held_back_is_not_taken(base: Base, planted: Worn, gains: tuple[Gain, ...]) -> None:
    adapters = [adapter for adapter, _ in planted]
    ready = fitting(base, adapters, gains, "adapter")  # at 1 and 1 nothing can be better but by luck
    values = outcome(fit(ready, alike(adapters, [1.0, 1.0]), steps=2, deadline=math.inf))[1]
    assert values is None or (values - 1).abs().max() < 0.2


def test_no_step_is_taken_after_the_deadline(base: Base, adapters: list[Adapter], gains: tuple[Gain, ...]) -> None:
    ready = fitting(base, adapters, gains, "layer")
    steps = list(fit(ready, alike(adapters, [0.5, 0.5]), steps=1000, deadline=time.perf_counter()))
    assert steps == []


def test_every_step_has_rows_of_every_skill_and_an_epoch_has_each_row_once(gains: tuple[Gain, ...]) -> None:
    numbers = [[0, 1, 2, 4, 5, 6], [0, 1, 2]]
    batches, cursor, seen = SkillBatches(gains, numbers, pack_tokens=2048, seed=0), Cursor(), list[str]()
    for _ in range(3):
        batch, cursor = batches.take(cursor)
        seen += batch.rows
        assert {name[0] for name in batch.rows} == {"0", "1"}
    first = [int(name[2:]) for name in seen if name.startswith("0:")]
    assert sorted(first[:6]) == numbers[0] and set(first) <= set(numbers[0])
    short, _ = SkillBatches(gains, numbers, pack_tokens=100, seed=0).take(Cursor())
    assert len(short.rows) == 2  # one of each, however little room there is


def test_a_lost_share_is_taken_against_the_rows_own_adapter(base: Base, gains: tuple[Gain, ...]) -> None:
    piece = piece_of(gains, [[0, 3], [2]])
    counts = [sum(sum(gains[place].rows[n].loss_mask[1:]) for n in own) for place, own in enumerate(([0, 3], [2]))]
    alone = torch.full((sum(counts),), 0.0)
    assert lost_shares(alone, piece).tolist() == pytest.approx([
        -sum(gains[0].alone[n] for n in (0, 3)) / (counts[0] * gains[0].gain),
        -gains[1].alone[2] / (counts[1] * gains[1].gain),
    ])  # fmt: skip
    assert float(smooth_cost(torch.tensor([0.5, 0.1]))) == pytest.approx(0.5 + 0.03 + 0.0018, abs=1e-3)
