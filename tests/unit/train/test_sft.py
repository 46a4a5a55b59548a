"""Batches and loss of supervised tuning on a tiny real decoder."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import DataError
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.cost import Work
from nomoat.train.sft import SftBatches, outline, probe_samples, sft_task, work_of
from nomoat.train.state import Cursor
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("tiny"))


def rows(count: int, *, seed: int = 0) -> list[Encoded]:
    """Random rows of 4 to 40 tokens whose last third is learned."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        length = draw.randint(4, 40)
        ids = [draw.randrange(3, 250) for _ in range(length)]
        made.append(Encoded(ids=ids, loss_mask=[i >= 2 * length // 3 for i in range(length)]))
    return made


def batches(data: list[Encoded], *, batch_size: int = 4, pack_tokens: int = 1000, seed: int = 0) -> SftBatches:
    names = [f"row {i}" for i in range(len(data))]
    return SftBatches(data, names, batch_size=batch_size, pack_tokens=pack_tokens, seed=seed)


def worn(base: Base) -> Adapter:
    """An adapter that already does something."""
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=8.0), seed=1, name="a")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return adapter


def test_an_epoch_learns_every_row_once_and_the_next_in_another_order() -> None:
    source, cursor = batches(rows(10)), Cursor()
    seen: dict[int, list[str]] = {0: [], 1: []}
    for _ in range(6):
        epoch = cursor.epoch
        step, cursor = source.take(cursor)
        seen[epoch] += step.rows
    assert cursor == Cursor(2, 0)
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(source.names) and seen[0] != seen[1]


def test_a_step_depends_on_the_cursor_and_the_seed_alone() -> None:
    first, second, other = batches(rows(10)), batches(rows(10)), batches(rows(10), seed=1)
    first.take(Cursor(0, 0))
    first.take(Cursor(3, 4))
    here, there = first.take(Cursor(1, 4))[0], second.take(Cursor(1, 4))[0]
    assert here.rows == there.rows != other.take(Cursor(1, 4))[0].rows
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(here.pieces, there.pieces))


@torch.no_grad()
def test_the_loss_of_a_step_is_the_mean_over_its_learned_tokens(base: Base) -> None:
    adapter, data = worn(base), rows(8)
    source = batches(data, batch_size=8, pack_tokens=60)
    task = sft_task(base, adapter, source, [], 1.0)
    step, _ = source.take(Cursor())
    assert len(step.pieces) > 1
    ours = sum(task.loss(piece).item() for piece in step.pieces) / step.count
    losses = []
    for row in data:  # one at a time, with the full logits
        ids = torch.tensor(row.ids)
        hidden = base.decoder(ids, Layout([len(ids)]), ((adapter, 1.0),))
        logits = base.decoder.logits(hidden, ((adapter, 1.0),))
        nll = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        losses.append(nll[torch.tensor(row.loss_mask[1:])])
    assert step.count == len(torch.cat(losses))
    assert ours == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


def gradients(base: Base, pack_tokens: int, data: list[Encoded]) -> dict[str, torch.Tensor]:
    adapter = worn(base)
    source = batches(data, batch_size=len(data), pack_tokens=pack_tokens)
    task = sft_task(base, adapter, source, [], 1.0)
    step, _ = source.take(Cursor())
    for piece in step.pieces:
        (task.loss(piece) / step.count).backward()
    return {name: parameter.grad for name, parameter in adapter.parameters().items() if parameter.grad is not None}


@pytest.mark.parametrize("pack_tokens", [1, 50, 100])
def test_gradients_added_up_over_pieces_are_those_of_one_piece(base: Base, pack_tokens: int) -> None:
    whole, cut = gradients(base, 10_000, rows(8)), gradients(base, pack_tokens, rows(8))
    assert whole.keys() == cut.keys() == worn(base).parameters().keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-4, atol=1e-6)


def test_tokens_outside_the_mask_teach_nothing_as_targets(base: Base) -> None:
    """The tail of a row after its last learned token reaches no gradient, whatever stands there."""
    head = Encoded(ids=[5, 6, 7, 8], loss_mask=[False, False, True, True])
    tails = [[9, 10, 11], [200, 100, 50]]
    found = [
        gradients(base, 100, [Encoded(ids=head.ids + tail, loss_mask=head.loss_mask + [False] * 3)]) for tail in tails
    ]
    alone = gradients(base, 100, [head])
    for name, gradient in alone.items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_the_held_out_loss_is_the_mean_over_all_held_out_tokens(base: Base) -> None:
    adapter, data, held = worn(base), rows(4), rows(6, seed=9)
    small, large = (sft_task(base, adapter, batches(data, pack_tokens=n), held, 1.0) for n in (50, 5000))
    assert small.evaluate is not None and large.evaluate is not None
    one, other = small.evaluate(), large.evaluate()
    assert one.tokens == other.tokens == sum(sum(row.loss_mask[1:]) for row in held)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_lora_plus_raises_the_rate_of_b_alone(base: Base) -> None:
    adapter = worn(base)
    scale = sft_task(base, adapter, batches(rows(4)), [], 16.0).lr_scale
    assert set(scale) == {name for name in adapter.parameters() if "lora_B" in name}
    assert set(scale.values()) == {16.0}


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no row to learn from"):
        batches([])


def test_the_outline_counts_the_run_and_the_samples_grow_to_its_largest_piece() -> None:
    data, held = rows(40), rows(5, seed=2)
    source = batches(data, pack_tokens=70)
    shape = outline(source, held, steps=30, pack_tokens=70)
    whole = shape.work(10)  # one epoch
    assert whole.tokens == sum(len(row.ids) for row in data)
    assert whole.learned == sum(sum(row.loss_mask[1:]) for row in data)
    assert whole.squares == sum(len(row.ids) ** 2 for row in data)
    assert shape.held_out.tokens == sum(len(row.ids) for row in held)
    assert shape.longest_row == max(len(row.ids) for row in (*data, *held))
    samples = probe_samples(source, 30)
    sizes = [sample.work.tokens for sample in samples]
    assert sizes == sorted(sizes) and sizes[-1] == max(
        len(piece.tokens) for i in range(3) for j in range(10) for piece in source.take(Cursor(i, 4 * j))[0].pieces
    )
    assert all(sample.work == work_of(sample.piece) for sample in samples)
    assert all(isinstance(sample.work, Work) and sample.work.learned >= 1 for sample in samples)


def test_an_adapter_over_the_tiny_base_learns_rows_by_heart(base: Base, tmp_path: Path) -> None:
    from nomoat.train.loop import LoopOptions, train

    adapter = base.new_adapter(AdapterConfig(rank=8, alpha=16.0), seed=0, name="a")
    data = rows(8)
    task = sft_task(base, adapter, batches(data, batch_size=8), data, 1.0)
    assert task.evaluate is not None
    before = task.evaluate().loss
    for _ in train(task, LoopOptions(steps=60, lr=2e-2)):
        pass
    assert task.evaluate().loss < before / 2
