"""From the stages' results to the receipt's facts."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from nomoat.core.errors import NotFound
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.judge.account import account
from nomoat.judge.facts import ReceiptFacts
from nomoat.judge.receipt import render

JUDGED = {"model": "base+scribe", "cpu_seconds": 7.0}
TUNED = {
    "seconds": 60.0,
    "cpu_seconds": 110.0,
    "threads": 2,
    "peak_bytes": 900_000_000,
    "predicted": {"seconds": 55.0, "low_s": 50.0, "high_s": 66.0, "peak_bytes": 950_000_000, "gave_up": ["an epoch"]},
}
OPTIONS = {"epochs": 2.0, "rank": 16, "lr": 5e-4, "seed": 0, "target_modules": ["all-linear"], "alpha": None}


@pytest.fixture
def store(own_home: object) -> Store:
    home = Store()
    parents = (Parent("base", "base", "ab" * 32), Parent("data", "mine", "cd" * 32))
    with home.writing("adapters", "scribe") as folder:
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        lineage = Lineage(kind="adapter", name="scribe", licence="MIT", parents=parents, options=OPTIONS)
        write_lineage(folder, lineage)
    with home.writing("bases", "base") as folder:
        write_lineage(folder, Lineage(kind="base", name="base", licence="Apache-2.0"))
    return home


def facts(store: Store, name: str = "scribe") -> ReceiptFacts:
    results: dict[str, dict[str, Any]] = {
        "rows": {"kept": {"train": 10, "test": 2}, "dropped": [{"reason": "empty answer", "count": 1, "first": "a:3"}]},
        "before": {"cpu_seconds": 3.0},
        "tune": TUNED,
        "after": JUDGED,
    }
    return account(name, store, results, [], [], {"tune": 60.0, "after": 5.0}, ["a warning"])


def test_every_part_is_named_with_its_hash_and_licence(store: Store) -> None:
    base, data, adapter = facts(store).ingredients
    assert (base.name, base.sha256, base.licence) == ("base", "ab" * 32, "Apache-2.0")
    assert (data.name, data.sha256, data.licence) == ("mine", "cd" * 32, "")
    assert adapter.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (adapter.licence, adapter.size_bytes) == ("MIT", 7)


def test_time_and_memory_stand_beside_their_forecasts(store: Store) -> None:
    time, memory = facts(store).forecasts
    assert (time.predicted, time.actual, time.held) == (55.0, 60.0, True)
    assert (memory.predicted, memory.actual, memory.held) == (950_000_000, 900_000_000, None)
    assert facts(store).gave_up == ("an epoch",)


def test_processor_time_counts_every_stage_that_measured_it(store: Store) -> None:
    cost = facts(store).cost
    assert cost is not None
    assert (cost.wall_s, cost.cpu_s) == (65.0, 120.0)


def test_the_commands_name_the_model_the_data_and_the_settings(store: Store) -> None:
    lines = [command.line for command in facts(store).commands]
    assert "nomoat chat base+scribe" in lines
    assert any("nomoat tune mine --base base" in line and "--rank 16" in line for line in lines)


def test_settings_are_words_and_the_page_can_be_written(store: Store) -> None:
    found = facts(store)
    assert found.settings["target modules"] == "all-linear"
    assert found.settings["lr"] == "0.0005"
    assert "alpha" not in found.settings
    page = render(ReceiptFacts(**{field: getattr(found, field) for field in ("name", "created", "settings", "kept")}))
    assert "all-linear" in page


def test_an_adapter_without_a_record_has_no_receipt(store: Store) -> None:
    with store.writing("adapters", "foreign"):
        pass
    with pytest.raises(NotFound, match="no record of its making"):
        facts(store, "foreign")


def test_settings_out_of_the_ordinary_are_shown_and_repeated(store: Store) -> None:
    assert not {"rehearse", "precision", "top layers"} & set(facts(store).settings)
    path = store.path("adapters", "scribe")
    unusual = OPTIONS | {"rehearse": 20, "precision": "int8", "top_layers": 0, "prefix_cache": "float32"}
    write_lineage(path, Lineage(kind="adapter", name="scribe", options=unusual))
    found = facts(store)
    assert found.settings["rehearse"] == "20" and "top layers" not in found.settings
    again = next(command.line for command in found.commands if command.purpose == "make it again")
    assert "--seed 0 --rehearse 20 --precision int8" in again
