"""Several adapters trained at once are those that each would have become alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Progress, Record
from nomoat.core.store import Store, read_lineage
from nomoat.train.options import TuneOptions
from nomoat.train.sweep import go_on, sweep
from nomoat.train.sweep_options import SweepOptions, members
from nomoat.train.tune import tune
from outcome import ended, notes
from tiny import tiny_folder

# The base's product of more rows at once may round its last bits otherwise; Adam's steps carry that on. Relative to
# the largest entry of each tensor, after the dozen or so steps of these runs.
TOLERANCE = 1e-4


@pytest.fixture
def options(tmp_path: Path) -> TuneOptions:
    return TuneOptions(
        data=str(write(tmp_path / "halves.jsonl", "Half of")),
        base=str(tiny_folder(tmp_path / "base")),
        name="many",
        rank=4,
        lr=5e-3,
        epochs=1.0,
        batch_size=4,
        eval_rows=4,
        eval_every=5,
        threads=1,
        probe_seconds=0.0,
    )


def write(path: Path, question: str, count: int = 48) -> Path:
    rows = [{"prompt": f"{question} {2 * i}?", "completion": f"It is {i}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def finished(options: TuneOptions, text: str, keep: str = "all") -> tuple[list[Record], dict[str, Any]]:
    records, done = ended(sweep(options, SweepOptions(text, keep), Store()))
    assert done.what == "sweep"
    return records, done.result


def tensors(name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(Store().find("adapters", name) / "adapter_model.safetensors")
    return found


def assert_as_alone(options: TuneOptions, name: str, **own: Any) -> None:
    alone = dataclasses.replace(options, name="alone-" + name, **own)
    list(tune(alone, Store()))
    together, apart = tensors(name), tensors(alone.name)
    assert together.keys() == apart.keys()
    for key, value in apart.items():
        torch.testing.assert_close(together[key], value, rtol=0.0, atol=TOLERANCE * value.abs().max().item())
    here, there = (read_lineage(Store().find("adapters", each)) for each in (name, alone.name))
    assert here is not None and there is not None
    for key in ("held_out_loss_before", "held_out_loss_after", "best_step", "steps", "tokens"):
        assert here.metrics[key] == pytest.approx(there.metrics[key], rel=TOLERANCE), key


def test_each_of_a_sweep_is_what_it_would_be_alone(options: TuneOptions) -> None:
    finished(options, "lr=5e-3,2e-2 rank=2,4")
    assert_as_alone(options, "many-lr2e-2-rank2", lr=2e-2, rank=2)
    assert_as_alone(options, "many-lr5e-3-rank4")


def test_other_seeds_have_other_rows_orders_and_starts_and_may_end_earlier(options: TuneOptions) -> None:
    finished(options, "seed=0,7 max-steps=3,9")
    assert_as_alone(options, "many-seed7-max-steps3", seed=7, max_steps=3)
    assert_as_alone(options, "many-seed0-max-steps9", max_steps=9)


def test_users_with_rows_of_their_own_share_the_base_alone(options: TuneOptions, tmp_path: Path) -> None:
    other = write(tmp_path / "doubles.jsonl", "Twice nothing and", 31)
    finished(dataclasses.replace(options, data=""), f"data={options.data},{other}")
    assert_as_alone(options, "many-doubles", data="doubles")
    assert_as_alone(options, "many-halves")


def test_small_pieces_and_layers_that_run_once_change_nothing(options: TuneOptions) -> None:
    options = dataclasses.replace(options, pack_tokens=96, top_layers=1)
    finished(options, "lr=5e-3,1e-2")
    assert_as_alone(options, "many-lr1e-2", lr=1e-2)
    assert not (Store().find("runs", "many-1") / "prefix").exists()


def test_the_best_is_kept_under_the_name_asked_for(options: TuneOptions) -> None:
    records, result = finished(options, "lr=1e-6,5e-3", keep="best")
    assert result["best"] == "lr5e-3" and Store().names("adapters") == ["many"]
    lines = {line["label"]: line["held_out_loss_after"] for line in result["members"]}
    assert lines["lr5e-3"] < lines["lr1e-6"]
    lineage = read_lineage(Store().find("adapters", "many"))
    assert lineage is not None and lineage.name == "many" and lineage.options["lr"] == 5e-3
    assert lineage.details["run"] == "many-1"
    bars = [record for record in records if isinstance(record, Progress) and record.stage == "training 2 adapters"]
    assert bars[-1].done == bars[-1].total == sum(line["steps"] for line in result["members"])
    said = notes(records)
    assert any(text.startswith("lr5e-3, step 5: held-out loss") for text in said)
    assert [path.name for path in Store().find("runs", "many-1").glob("*/checkpoint-*")] == []


@pytest.mark.parametrize("stop", [1, 9, 15])
def test_stopped_and_resumed_all_end_with_the_same_bytes(options: TuneOptions, stop: int) -> None:
    finished(dataclasses.replace(options, name="whole"), "lr=5e-3,2e-2")
    records = sweep(options, SweepOptions("lr=5e-3,2e-2", "all"), Store())
    steps = 0
    while steps < stop:
        record = next(records)
        steps += isinstance(record, Progress) and record.stage.startswith("training")
    records.close()
    list(go_on("many-1", Store()))
    for label in ("lr5e-3", "lr2e-2"):
        for key, value in tensors(f"whole-{label}").items():
            assert torch.equal(tensors(f"many-{label}")[key], value)
    with pytest.raises(UsageError, match="run many-1 is finished"):
        list(go_on("many-1", Store()))


def test_a_dry_run_prices_all_of_them(options: TuneOptions) -> None:
    asked = dataclasses.replace(options, dry_run=True, probe_seconds=0.3, name="")
    done = list(sweep(asked, SweepOptions("lr=1e-3,1e-2,1e-1"), Store()))[-1]
    one = list(tune(asked, Store()))[-1]
    assert isinstance(done, Done) and isinstance(one, Done)
    assert done.result["steps"] == 3 * one.result["steps"] and done.result["tokens"] == 3 * one.result["tokens"]
    assert done.result["disk_bytes"] == 3 * one.result["disk_bytes"]
    assert Store().names("runs") == []


@pytest.mark.parametrize(
    ("text", "keep", "changes", "complaint"),
    [
        ("lr=1e-3", "best", {}, "makes 1 adapters"),
        ("threads=1,2", "best", {}, "cannot vary 'threads'"),
        ("lr", "best", {}, "cannot vary 'lr'"),
        ("lr=1e-3,fast", "best", {}, "--lr cannot be 'fast'"),
        ("lr=1e-3,1e-3", "best", {}, "the same value twice"),
        ("lr=1e-3,1e-2 lr=1,2", "best", {}, "names 'lr' twice"),
        ("rank=8,0", "best", {}, "--rank cannot be 0"),
        ("data=a,b", "best", {}, "cannot be compared"),
        ("lr=1e-3,1e-2", "best", {"eval_rows": 0}, "no best adapter"),
        ("lr=1e-3,1e-2", "best", {"minutes": 5.0}, "no --minutes"),
        ("lr=1e-3,1e-2", "best", {"on": "base+one"}, "on the bare base"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(
    options: TuneOptions, text: str, keep: str, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        members(dataclasses.replace(options, **changes), SweepOptions(text, keep))


def test_taken_names_are_refused_before_anything_is_loaded(options: TuneOptions) -> None:
    list(tune(dataclasses.replace(options, name="many-lr1e-2", max_steps=1), Store()))
    with pytest.raises(UsageError, match="there is an adapter 'many-lr1e-2' already"):
        next(sweep(options, SweepOptions("lr=1e-3,1e-2", "all"), Store()))
