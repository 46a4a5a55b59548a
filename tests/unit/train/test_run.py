"""The folder of a run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from nomoat.core.errors import FormatError, NotFound, UsageError
from nomoat.core.records import Note, Saved
from nomoat.core.store import Store
from nomoat.train.run import RunRecord, Settled, check_same, create_run, open_run
from nomoat.train.state import Snapshot, State

RECORD = RunRecord({"lr": 1e-3, "name": "scribe"}, Settled(10, 2048, 5, 1), {"base": "ab"}, {"torch": "2"}, "now")


def snapshot(step: int) -> Snapshot:
    return Snapshot(State(step), {"w": torch.ones(3)}, {"mean.w": torch.ones(3)}, {})


def test_runs_of_one_name_are_numbered_and_a_long_name_is_cut() -> None:
    store = Store()
    assert [create_run(store, "scribe", RECORD).id for _ in range(3)] == ["scribe-1", "scribe-2", "scribe-3"]
    store.remove("runs", "scribe-2")
    assert create_run(store, "scribe", RECORD).id == "scribe-2"
    assert len(create_run(store, "x" * 100, RECORD).id) <= 100


def test_a_record_is_read_back_as_it_was() -> None:
    run = create_run(Store(), "scribe", dataclasses.replace(RECORD, plan={"seconds": 3.25}))
    assert open_run(Store(), run.id).record == run.record
    assert run.resume_command == "nomoat tune --resume scribe-1"


def test_no_run_and_a_damaged_one_are_told_apart() -> None:
    with pytest.raises(NotFound):
        open_run(Store(), "scribe-1")
    run = create_run(Store(), "scribe", RECORD)
    (run.path / "options.json").write_text('{"options": {}}')
    with pytest.raises(FormatError, match="not the record of a run"):
        open_run(Store(), run.id)


def test_the_log_is_cut_back_to_the_checkpoint_and_then_grows() -> None:
    run = create_run(Store(), "scribe", RECORD)
    with run.logging(0) as log:
        log.write(Note("kept"))
        log.save(snapshot(1))
        log.write(Saved(run.path, "checkpoint"))
        log.write(Note("after the checkpoint, so it will happen again"))
    with run.log_path.open("a") as file:
        file.write('{"record": "no')  # torn by a kill
    checkpoint, complaints = run.latest()
    assert checkpoint is not None and complaints == []
    with run.logging(checkpoint.log_bytes) as log:
        log.write(Note("again"))
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    assert [line["text"] for line in lines] == ["kept", "again"]


def test_a_checkpoint_of_another_run_is_not_taken() -> None:
    one, other = (create_run(Store(), "scribe", dataclasses.replace(RECORD, created=when)) for when in ("a", "b"))
    with one.logging(0) as log:
        log.save(snapshot(1))
    (one.path / "checkpoint-000001").rename(other.path / "checkpoint-000001")
    checkpoint, complaints = other.latest()
    assert checkpoint is None and "belongs to another run" in complaints[0]


def test_every_difference_is_named_with_both_values() -> None:
    check_same({"a": 1, "b": "x"}, {"a": 1, "b": "x"}, what="options", hint="")
    with pytest.raises(UsageError, match=r"other options: b was \"x\" and is \"y\"; c was null and is 3"):
        check_same({"a": 1, "b": "x"}, {"a": 1, "b": "y", "c": 3}, what="options", hint="")
