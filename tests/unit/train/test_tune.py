"""A tune from rows and a base to an adapter in the store, on a tiny real base."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from full_disk import small_disk
from nomoat.core.errors import NotFound, ResourceError, StorageError, UsageError
from nomoat.core.records import Eval, Record, Step, returned
from nomoat.core.store import Store, read_lineage
from nomoat.model.load import load_base
from nomoat.train.job import prepare
from nomoat.train.options import TuneOptions
from nomoat.train.parents import model_sha256
from nomoat.train.sft import sft_task
from nomoat.train.tune import resume, tune
from outcome import ended, notes
from tiny import tiny_base, tiny_folder

CAPITALS = ["Paris", "Rome", "Lima", "Oslo", "Cairo", "Quito", "Seoul", "Delhi"]


def write_rows(path: Path, count: int = 60) -> Path:
    rows = [{"prompt": f"Capital {i}?", "completion": f"{CAPITALS[i % 8]} {i}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def options(tmp_path: Path) -> TuneOptions:
    return TuneOptions(
        data=str(write_rows(tmp_path / "capitals.jsonl")),
        base=str(tiny_folder(tmp_path / "base")),
        name="scribe",
        rank=4,
        lr=5e-3,
        epochs=2.0,
        eval_every=4,
        threads=1,
        probe_seconds=0.0,
    )


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}


def test_it_ends_with_an_adapter_its_lineage_and_a_run_without_checkpoints(options: TuneOptions) -> None:
    store = Store()
    records, done = ended(tune(options, store))
    folder = store.find("adapters", "scribe")
    assert done.path == folder and done.result["steps"] == sum(isinstance(record, Step) for record in records)
    assert done.result["held_out_loss_after"] < done.result["held_out_loss_before"]
    lineage = read_lineage(folder)
    assert lineage is not None
    assert [(parent.kind, parent.name) for parent in lineage.parents] == [("base", "base"), ("data", "capitals")]
    assert lineage.parents[0].sha256 == model_sha256(Path(options.base))
    assert lineage.metrics["threads"] == 1 and lineage.metrics["peak_bytes"] > 1e7 and lineage.seed == 0
    assert lineage.options["rank"] == 4 and lineage.details["run"] == "scribe-1"
    assert "# scribe" in (folder / "README.md").read_text()
    run = store.find("runs", "scribe-1")
    assert sorted(path.name for path in run.iterdir()) == ["log.jsonl", "loss.png", "options.json", "result.json"]
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    logged = [json.loads(line)["record"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert logged.count("step") == done.result["steps"] and logged.count("eval") >= 3


def test_the_saved_adapter_is_that_of_the_best_measurement(options: TuneOptions) -> None:
    store = Store()
    records, done = ended(tune(dataclasses.replace(options, lr=5e-2, epochs=6.0), store))
    best = min(record.loss for record in records if isinstance(record, Eval) and record.step > 0)
    assert done.result["held_out_loss_after"] == best
    job = returned(prepare(options, store))
    adapter = job.base.load_adapter(done.path or Path())
    evaluate = sft_task(job.base, adapter, job.batches(2048), job.held_out, 1.0).evaluate
    assert evaluate is not None and evaluate().loss == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"use_dora": True}, {"init": "pissa"}, {"target_modules": ("embed_tokens", "lm_head")}]
)
def test_a_seed_gives_the_same_bytes_twice_and_another_seed_others(
    options: TuneOptions, changes: dict[str, Any]
) -> None:
    options = dataclasses.replace(options, epochs=0.5, eval_every=0, **changes)
    found = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        ended(tune(dataclasses.replace(options, name=name, seed=seed), Store()))
        found.append(files_of(Store().find("adapters", name))["adapter_model.safetensors"])
    assert found[0] == found[1] != found[2]


def test_the_default_template_travels_with_the_adapter_of_a_base_without_one(
    options: TuneOptions, tmp_path: Path
) -> None:
    ended(tune(dataclasses.replace(options, max_steps=1), Store()))
    assert not (Store().find("adapters", "scribe") / "chat_template.jinja").exists()
    bare = tiny_folder(tmp_path / "bare")
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    ended(tune(dataclasses.replace(options, base=str(bare), name="plain", max_steps=1), Store()))
    stored = (Store().find("adapters", "plain") / "chat_template.jinja").read_text()
    assert stored == load_base(bare).template.source


def test_a_dry_run_predicts_and_leaves_nothing(options: TuneOptions) -> None:
    records, done = ended(tune(dataclasses.replace(options, name="", dry_run=True, probe_seconds=0.5), Store()))
    assert done.what == "plan" and done.result["seconds"] > 0 and done.result["peak_bytes"] > 1e7
    assert any(text.startswith("prediction: ") for text in notes(records))
    assert Store().names("runs") == Store().names("adapters") == []


def test_a_budget_gives_up_what_it_says(options: TuneOptions) -> None:
    asked = dataclasses.replace(options, epochs=1e7, minutes=10.0, probe_seconds=1.0)
    records, seen = tune(asked, Store()), list[Record]()
    while not seen or not isinstance(seen[-1], Step):
        seen.append(next(records))
    records.close()
    plan = json.loads((Store().find("runs", "scribe-1") / "options.json").read_text())["plan"]
    said = [text for text in notes(seen) if text.startswith("to fit: ")]
    assert said == [f"to fit: {words}" for words in plan["gave_up"]] and "to take 10 min" in said[0]
    assert isinstance(seen[-1], Step) and seen[-1].total_steps == plan["steps"]
    assert plan["high_s"] < 600 and plan["epochs"] < 1e7


def test_a_bound_on_memory_that_cannot_be_kept_is_refused_before_a_run_exists(options: TuneOptions) -> None:
    with pytest.raises(ResourceError, match=r"52\.4 MB were allowed"):
        list(tune(dataclasses.replace(options, memory="50M", probe_seconds=0.5), Store()))
    assert Store().names("runs") == []


def test_a_name_that_is_taken_is_refused_before_anything_is_loaded(options: TuneOptions) -> None:
    ended(tune(dataclasses.replace(options, max_steps=1), Store()))
    with pytest.raises(UsageError, match="there is an adapter 'scribe' already"):
        next(tune(dataclasses.replace(options, base="no-such-base"), Store()))
    ended(tune(dataclasses.replace(options, max_steps=2, replace=True), Store()))
    lineage = read_lineage(Store().find("adapters", "scribe"))
    assert lineage is not None and lineage.metrics["steps"] == 2


def test_a_file_becomes_a_data_set_once(options: TuneOptions, tmp_path: Path) -> None:
    ended(tune(dataclasses.replace(options, max_steps=1), Store()))
    records, _ = ended(tune(dataclasses.replace(options, name="again", max_steps=1), Store()))
    assert any("is the data set 'capitals' already" in text for text in notes(records))
    write_rows(Path(options.data), 61)
    with pytest.raises(UsageError, match="made of something else"):
        list(tune(dataclasses.replace(options, name="third"), Store()))
    with pytest.raises(NotFound, match="did you mean capitals"):
        list(tune(dataclasses.replace(options, name="third", data="capital"), Store()))


def test_rows_that_are_too_long_are_dropped_aloud(options: TuneOptions, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    write_rows(path)
    long = {"prompt": "Why?", "completion": "because " * 40}
    path.write_text(path.read_text() + json.dumps(long) + "\n")
    records, _ = ended(tune(dataclasses.replace(options, data=str(path), max_steps=1, max_seq_len=120), Store()))
    texts = notes(records)
    assert any("dropped 1 row: longer than 120 tokens" in text for text in texts), texts


def test_nothing_held_out_takes_the_last_step(options: TuneOptions) -> None:
    records, done = ended(tune(dataclasses.replace(options, eval_rows=0, max_steps=3), Store()))
    assert done.result["held_out_loss_after"] is None and done.result["best_step"] == 3
    assert not any(isinstance(record, Eval) for record in records)


def test_general_rows_are_learned_among_the_others_and_recorded(options: TuneOptions) -> None:
    job = returned(prepare(dataclasses.replace(options, rehearse=40, max_seq_len=512), Store()))
    plain = returned(prepare(dataclasses.replace(options, max_seq_len=512), Store()))
    assert 0 < len(job.rehearsed) <= 40 and job.steps > plain.steps and job.made_of != plain.made_of
    batches = job.batches(2048)
    assert len(batches.rows) == len(batches.names) == len(plain.rows.rows) + len(job.rehearsed)
    assert job.held_out == plain.held_out
    ended(tune(dataclasses.replace(options, rehearse=9, max_seq_len=512, epochs=0.3), Store()))
    lineage = read_lineage(Store().find("adapters", "scribe"))
    assert lineage is not None and lineage.details["rehearsed"]["licence"] == "Apache-2.0"
    with pytest.raises(UsageError, match=r"there are \d+ general rows, not 100000"):
        list(tune(dataclasses.replace(options, name="b", rehearse=100_000), Store()))


# -- going on


def test_other_options_are_refused_by_name(options: TuneOptions) -> None:
    records = tune(options, Store())
    while not isinstance(next(records), Step):
        pass
    records.close()
    with pytest.raises(UsageError, match=r"other options: lr was 0\.005 and is 0\.001"):
        list(resume("scribe-1", Store(), {"lr": "0.001"}))
    ended(resume("scribe-1", Store(), {"lr": "0.005", "rank": "4"}))
    with pytest.raises(UsageError, match="run scribe-1 is finished"):
        list(resume("scribe-1", Store()))


def test_it_goes_on_from_another_folder_and_without_the_file_that_the_rows_came_from(
    options: TuneOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    records = tune(dataclasses.replace(options, data="capitals.jsonl", base="./base"), Store())
    while not isinstance(next(records), Step):
        pass
    records.close()
    (tmp_path / "capitals.jsonl").unlink()
    monkeypatch.chdir("/")
    ended(resume("scribe-1", Store()))


def test_other_data_and_another_base_are_refused(options: TuneOptions, tmp_path: Path) -> None:
    store = Store()
    records = tune(options, store)
    while not isinstance(next(records), Step):
        pass
    records.close()
    file = store.find("data", "capitals") / "train.jsonl"
    held = file.read_bytes()
    file.write_bytes(held + b'{"prompt": "new", "completion": "row of tokens"}\n')
    with pytest.raises(UsageError, match=r"other data or base: .*train\.jsonl was"):
        list(resume("scribe-1", store))
    file.write_bytes(held)
    tiny_base(Path(options.base), seed=9)
    with pytest.raises(UsageError, match="other data or base: base was"):
        list(resume("scribe-1", store))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(options: TuneOptions) -> None:
    store = Store()
    ended(tune(dataclasses.replace(options, name="whole"), store))
    records = tune(options, store)
    steps = 0
    while steps < 6:
        steps += isinstance(next(records), Step)
    records.close()
    newest = max(store.find("runs", "scribe-1").glob("checkpoint-*"))
    (newest / "parameters.safetensors").write_bytes(b"nothing")
    seen, _ = ended(resume("scribe-1", store))
    assert any("passed over a checkpoint" in text for text in notes(seen))
    assert (
        files_of(store.find("adapters", "whole"))["adapter_model.safetensors"]
        == (files_of(store.find("adapters", "scribe"))["adapter_model.safetensors"])
    )


# -- bad disks


def test_a_full_disk_is_told_and_leaves_no_half_of_anything(options: TuneOptions) -> None:
    store = Store()
    with small_disk(24 << 10), pytest.raises(StorageError) as caught:
        list(tune(options, store))
    assert "NOMOAT_HOME" in caught.value.hint
    left = {path.relative_to(store.home).as_posix() for path in store.home.rglob("*") if path.is_file()}
    assert left == {f"data/capitals/{name}" for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "nomoat.json")} | {
        f"runs/scribe-1/{name}" for name in ("options.json", "log.jsonl")
    }


def test_a_home_that_cannot_be_written_is_told(options: TuneOptions, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(StorageError) as caught:
        list(tune(options, Store(occupied / "home")))
    assert "NOMOAT_HOME" in caught.value.hint


def test_the_adapter_changes_the_base_it_was_trained_on(options: TuneOptions) -> None:
    ended(tune(dataclasses.replace(options, max_steps=4), Store()))
    tensors = load_file(Store().find("adapters", "scribe") / "adapter_model.safetensors")
    assert all(np.abs(value).max() > 0 for name, value in tensors.items() if "lora_B" in name)
