"""Learning rewards from pairs: the loss, the run, its resumption, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.records import Step
from nomoat.core.store import Store
from nomoat.data.preferences import read_preferences
from nomoat.engine.names import open_stack
from nomoat.engine.reward import conversation_ids, rewards
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base
from nomoat.train.options import TuneOptions, check
from nomoat.train.reward import PAIRS_FILES, encode_pairs, reward_task
from nomoat.train.sft import SftBatches
from nomoat.train.state import Cursor
from nomoat.train.sweep_options import SweepOptions, members
from nomoat.train.tune import resume, tune
from outcome import finished
from tiny import tiny_folder

OPTIONS = TuneOptions(
    data="pairs", base="small", name="rm", method="reward", rank=4, lr=1e-2, epochs=4.0, batch_size=8, threads=1,
    probe_seconds=0.0, eval_rows=6,
)  # fmt: skip


@pytest.fixture
def store(own_home: Path) -> Store:
    """A base, and pairs whose better answer says blue."""
    torch.set_num_threads(1)
    store = Store(own_home)
    tiny_folder(own_home / "bases" / "small", num_hidden_layers=2)
    with store.writing("data", "pairs") as folder:
        for split, start, count in (("train", 0, 24), ("valid", 40, 6)):
            rows = [
                {"prompt": f"say {n}", "chosen": f"{n} blue", "rejected": f"{n} red"}
                for n in range(start, start + count)
            ]
            (folder / PAIRS_FILES[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return store


def batches_of(store: Store, base: Base, pack_tokens: int) -> SftBatches:
    rows = encode_pairs(store.path("data", "pairs"), "train", base, 512).rows
    return SftBatches(
        rows, [str(n) for n in range(len(rows))], batch_size=8, pack_tokens=pack_tokens, seed=3, group=2
    )  # fmt: skip


def test_the_loss_is_that_of_bradley_and_terry_in_pieces_of_any_size(store: Store) -> None:
    base, _ = open_stack(store, "small")
    adapter = base.new_adapter(AdapterConfig(rank=2, reward_head=True), seed=0, name="rm")
    pair = read_preferences(store.path("data", "pairs") / PAIRS_FILES["train"])
    asked = [conversation_ids(base, each.messages, text) for each in pair for text in (each.chosen, each.rejected)]
    found = rewards(base, asked, ((adapter, 1.0),))
    by_hand = [math.log1p(math.exp(worse - better)) for better, worse in zip(found[::2], found[1::2])]
    for pack_tokens in (50, 4096):
        batches = batches_of(store, base, pack_tokens)
        task = reward_task(base, adapter, batches, batches.rows)
        step, _ = batches.take(Cursor())
        assert step.count == 4 and all(len(piece.lengths) % 2 == 0 for piece in step.pieces)
        own = [int(name) // 2 for name in step.rows[::2]]
        with torch.no_grad():
            total = sum(task.loss(piece).item() for piece in step.pieces)
        assert total == pytest.approx(sum(by_hand[place] for place in own), abs=1e-4)
        assert task.evaluate is not None
        assert task.evaluate().loss == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-4)
        assert task.evaluate().tokens == 24


@pytest.mark.parametrize("method", ["reward", "reward-head"])
def test_a_run_learns_what_carries_over_to_new_pairs(store: Store, method: str) -> None:
    alone = method == "reward-head"
    options = dataclasses.replace(OPTIONS, method=method, top_layers=1 if alone else 0, lr=3e-2 if alone else 1e-2)
    done, _ = finished(tune(options, store))
    assert done.result["held_out_tokens"] == 6  # pairs
    assert done.result["held_out_loss_after"] < min(0.5, done.result["held_out_loss_before"])
    base, worn = open_stack(store, "small+rm")
    sides = [
        [conversation_ids(base, [{"role": "user", "content": f"say {n}"}], f"{n} {word}") for n in range(50, 58)]
        for word in ("blue", "red")
    ]
    better, worse = (rewards(base, side, worn) for side in sides)
    assert sum(one > other for one, other in zip(better, worse)) >= 7
    moved = [delta.lora_B.abs().sum().item() for delta in worn[0][0].deltas.values()]
    assert (max(moved) == 0) == alone


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(store: Store) -> None:
    finished(tune(dataclasses.replace(OPTIONS, name="whole"), store))
    records = tune(dataclasses.replace(OPTIONS, name="halves"), store)
    steps = (record for record in records if isinstance(record, Step))
    assert [next(steps).step for _ in range(5)][-1] == 5
    records.close()
    (run,) = (name for name in store.names("runs") if name.startswith("halves"))
    finished(resume(run, store))
    files = [store.path("adapters", name) / "adapter_model.safetensors" for name in ("whole", "halves")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_pairs_that_are_too_long_are_left_out_whole(store: Store) -> None:
    base, _ = open_stack(store, "small")
    folder = store.path("data", "pairs")
    with (folder / PAIRS_FILES["train"]).open("a") as file:
        file.write(json.dumps({"prompt": "?", "chosen": "short", "rejected": "long" * 200}) + "\n")
    found = encode_pairs(folder, "train", base, 128)
    assert len(found.rows) == 48 and found.dropped == {"a pair of more than 128 tokens": 1}


def test_what_does_not_go_with_pairs_is_refused(store: Store) -> None:
    for wrong in ({"distil": True}, {"loss": "all"}, {"keep_rows": 3}, {"use_dora": True}, {"lora_plus_ratio": 4.0}):
        with pytest.raises(UsageError, match="does not go with"):
            check(dataclasses.replace(OPTIONS, **wrong))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two rows"):
        check(dataclasses.replace(OPTIONS, batch_size=3))
    with pytest.raises(UsageError, match="not rewards"):
        members(OPTIONS, SweepOptions(sweep="lr=1e-3,1e-4"))
    with store.writing("data", "plain") as folder:
        (folder / "train.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(NotFound, match="no pairs to learn a reward from"):
        finished(tune(dataclasses.replace(OPTIONS, data="plain"), store))
