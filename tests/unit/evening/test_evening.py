"""The whole way on a tiny base: what it ends with, and that it goes on wherever it is stopped."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError, FormatError, Interrupted, NotFound, ResourceError
from nomoat.core.records import Note, Record, Step
from nomoat.core.store import Store, read_lineage
from nomoat.data.load import load_rows
from nomoat.evening import EveningOptions, evening, resume_evening
from nomoat.evening.diary import diary_path, stopped
from outcome import ended
from tiny import tiny_folder


@pytest.fixture
def options(tmp_path: Path) -> EveningOptions:
    rows = [{"prompt": f"{i} and 1?", "completion": f"{i + 1}"} for i in range(60)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = tiny_folder(tmp_path / "base")
    return EveningOptions(
        rows=str(tmp_path / "sums.jsonl"), base=str(base), rank=2, threads=1, limit=2, forgetting=False, check="exact"
    )


def run(records: Generator[Record]) -> tuple[list[Record], dict[str, Any]]:
    seen, done = ended(records)
    return seen, done.result


def weights(name: str) -> bytes:
    return (Store().find("adapters", name) / "adapter_model.safetensors").read_bytes()


def test_it_ends_with_a_verdict_a_receipt_and_no_diary(options: EveningOptions) -> None:
    _, result = run(evening(options, Store()))
    assert result["name"] == "sums" and result["verdict"] in ("better", "worse", "cannot tell")
    receipt = Path(result["receipt"])
    assert receipt.parent.name == result["tune"]["run"] == "sums-1" and "<svg" in receipt.read_text()
    lineage = read_lineage(Store().find("adapters", "sums"))
    assert (
        lineage is not None
        and lineage.options["rehearse"] == len(load_rows(Store().path("data", "sums"), "train")) // 10
    )
    assert lineage.options["rehearse"] > 0
    assert stopped(Store()) == [] and set(result["seconds"]) == {"base", "rows", "before", "tune", "after"}


def test_stopped_in_any_stage_it_goes_on_to_the_same_adapter(options: EveningOptions) -> None:
    run(evening(dataclasses.replace(options, name="whole"), Store()))
    records = evening(dataclasses.replace(options, name="cut"), Store())
    for met in ("the check before", "the third step", "the check after"):
        until(records, met)
        with pytest.raises(Interrupted) as caught:
            records.throw(KeyboardInterrupt())
        assert caught.value.hint == "nomoat evening --resume cut"
        records = resume_evening("", Store())
    seen, result = run(records)
    assert weights("cut") == weights("whole")
    assert not any(isinstance(record, Step) for record in seen), "the tune was done, and is done again"
    assert stopped(Store()) == [] and Store().names("runs").count("cut-1") == 1
    steps = result["tune"]["steps"]
    assert Path(result["receipt"]).exists() and steps > 3


def until(records: Generator[Record], met: str) -> None:
    """Draw records until the stage is under way."""
    for record in records:
        if isinstance(record, Step) and record.step == 3 and "step" in met:
            return
        if isinstance(record, Note) and record.text.startswith("check exact") and "check" in met:
            return
    raise AssertionError(f"{met} never began")


def test_a_second_evening_of_that_name_says_that_one_was_stopped(options: EveningOptions) -> None:
    first = evening(options, Store())
    next(first)
    first.close()
    said = next(evening(options, Store()))
    assert isinstance(said, Note) and said.warning and "nomoat evening --resume sums" in said.text


def test_refused_for_time_after_measuring_it_goes_on_with_more_minutes(options: EveningOptions) -> None:
    """What was measured is kept, and the minutes are counted from now."""
    with pytest.raises(ResourceError, match="a minute is the least") as caught:
        list(evening(dataclasses.replace(options, minutes=0.5), Store()))
    assert "nomoat evening --resume sums --minutes" in caught.value.hint
    with pytest.raises(ResourceError):
        list(resume_evening("sums", Store(), minutes=0.9))
    seen, result = run(resume_evening("sums", Store(), minutes=60))
    assert "base, rows, before" in next(record.text for record in seen if isinstance(record, Note))
    assert Path(result["receipt"]).exists() and stopped(Store()) == []


def test_what_cannot_be_gone_on_with_is_said(options: EveningOptions) -> None:
    with pytest.raises(NotFound, match="no evening was stopped"):
        next(resume_evening("", Store()))
    first = evening(options, Store())
    next(first)
    with pytest.raises(NotFound, match="called 'other' was stopped; these were: sums"):
        next(resume_evening("other", Store()))
    diary_path(Store(), "sums").write_text('{"options": {}, "name": "sums"}')
    with pytest.raises(FormatError, match="not the diary of an evening"):
        next(resume_evening("sums", Store()))


def test_an_evening_of_a_base_that_is_not_there_leaves_nothing_to_go_on_with(options: EveningOptions) -> None:
    with pytest.raises(NotFound, match="no such file"):
        list(evening(dataclasses.replace(options, base="./nothere.gguf"), Store()))
    assert stopped(Store()) == []


def test_rows_too_few_to_judge_with_are_refused_before_anything_is_written(options: EveningOptions) -> None:
    Path(options.rows).write_text(
        '{"prompt": "1 and 1?", "completion": "2"}\n{"prompt": "2 and 1?", "completion": "3"}\n'
    )
    with pytest.raises(DataError, match="2 rows: too few to judge with") as caught:
        list(evening(options, Store()))
    assert "nomoat tune" in caught.value.hint
    assert Store().names("data") == []


def test_the_functions_of_the_api_are_not_hidden_by_the_rooms_of_their_names() -> None:
    code = "import nomoat; nomoat.TuneOptions; assert callable(nomoat.evening) and callable(nomoat.judge)"
    subprocess.run([sys.executable, "-c", code], check=True)
