"""Skills that were really learned on a tiny base: subsets, search and slope."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapters import with_random_biases
from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store
from nomoat.engine.score import loss
from nomoat.stack.job import OpenStack, open_parts
from nomoat.stack.options import NATS, SkillOptions
from nomoat.stack.report import HEAT_FILE, REPORT_FILE, report
from nomoat.stack.search import search
from nomoat.stack.skills import read_skills, shares_kept
from nomoat.stack.slope import loss_and_slope, parts_of, softmax
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune
from tiny import tiny_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two skills tuned apart on one base: counting up, and answering the same colour."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("skills") / "home"
    store = Store(home)
    tiny_folder(home / "bases" / "tiny")
    makers = {"counts": lambda n: f"{n} {n + 1} {n + 2}", "colours": lambda n: "blue sky"}
    for name, make in makers.items():
        with store.writing("data", name) as folder:
            for split, start, count in (("train", 0, 48), ("valid", 60, 8), ("test", 80, 8)):
                rows = [{"prompt": f"{name} {n}", "completion": make(n)} for n in range(start, start + count)]
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = TuneOptions(
            data=name, base="tiny", name=name[:-1], rank=4, lr=1e-2, epochs=2.0, threads=1, probe_seconds=0.0
        )
        for _ in tune(options, store):
            pass
    return home


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def opened(store: Store) -> OpenStack:
    return open_parts(store, ["count", "colour"])


def run(records: Iterator[Record]) -> tuple[Done, str]:
    seen = list(records)
    done = seen[-1]
    assert isinstance(done, Done)
    return done, "\n".join(record.text for record in seen if isinstance(record, Note))


def skills_of(store: Store, opened: OpenStack, split: str = "valid") -> tuple:
    reading = read_skills(store, opened.base, opened.worn, opened.folders, data=(), split=split, limit=8)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            found: tuple = end.value
            return found


def test_the_report_has_every_subset_and_says_what_is_left_of_each_gain(store: Store, opened: OpenStack) -> None:
    done, _ = run(report(opened, SkillOptions(limit=8), store))
    scores = done.result["scores"]
    assert [(skill["adapter"], skill["data"], skill["unit"]) for skill in scores["skills"]] == [
        ("count", "counts", NATS), ("colour", "colours", NATS),
    ]  # fmt: skip
    subsets = {tuple(each["adapters"]): each for each in scores["subsets"]}
    assert set(subsets) == {(), ("count",), ("colour",), ("count", "colour")}
    assert subsets[()]["kept"] == [0.0, 0.0]
    assert subsets[("count",)]["kept"][0] == 1.0 and subsets[("colour",)]["kept"][1] == 1.0
    for place, skill in enumerate(skills_of(store, opened, "test")):
        both = subsets[("count", "colour")]["scores"][place]
        assert both == pytest.approx(loss(opened.base, skill.rows, opened.worn)[0], abs=1e-5)
    assert done.path is not None and (done.path / HEAT_FILE).read_bytes().startswith(b"\x89PNG")
    assert json.loads((done.path / REPORT_FILE).read_text())["rank"] == 8


def test_the_search_loses_less_than_the_naive_sum_and_writes_down_the_weights(store: Store, opened: OpenStack) -> None:
    done, said = run(search(opened, SkillOptions(limit=8, budget=12, gradient_steps=2), store))
    result = done.result
    assert set(result["weights"]) == {"count", "colour"}
    assert "of its own gain" in said
    valid = skills_of(store, opened)
    bare = [loss(opened.base, skill.rows)[0] for skill in valid]
    alone = [loss(opened.base, skill.rows, (part,))[0] for skill, part in zip(valid, opened.worn)]
    naive = shares_kept([loss(opened.base, skill.rows, opened.worn)[0] for skill in valid], bare, alone)
    assert min(result["kept_valid"]) >= min(naive) - 1e-6
    assert all(min(each["kept"]) >= 0.95 for each in result["within"])


def test_the_slope_is_the_derivative_of_the_loss_by_each_weight(store: Store, opened: OpenStack) -> None:
    rows = skills_of(store, opened)[0].rows
    weights = [0.8, 0.4]
    value, slopes = loss_and_slope(opened.base, parts_of(opened.worn), weights, rows)
    assert value == pytest.approx(loss(opened.base, rows, tuple(zip(opened.adapters, weights)))[0], abs=1e-4)
    for place, slope in enumerate(slopes):
        ends = []
        for side in (1e-2, -1e-2):
            moved = [weight + side * (place == other) for other, weight in enumerate(weights)]
            ends.append(loss(opened.base, rows, tuple(zip(opened.adapters, moved)))[0])
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.05, abs=2e-3)


def test_the_slope_of_a_weight_counts_its_biases(store: Store, opened: OpenStack) -> None:
    rows = skills_of(store, opened)[0].rows
    own = {module: dataclasses.replace(delta) for module, delta in opened.adapters[0].deltas.items()}
    biased = with_random_biases(dataclasses.replace(opened.adapters[0], deltas=own), 1, "up_proj", spread=0.05)
    slope = loss_and_slope(opened.base, parts_of(((biased, 1.0),)), [0.5], rows)[1][0]
    ends = [loss(opened.base, rows, ((biased, 0.5 + side),))[0] for side in (1e-2, -1e-2)]
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.05, abs=2e-3)


def test_data_sets_can_be_named_and_missing_ones_are_said(store: Store, opened: OpenStack) -> None:
    done, _ = run(report(opened, SkillOptions(limit=4, data=("colours", "counts")), store))
    assert [skill["data"] for skill in done.result["scores"]["skills"]] == ["colours", "counts"]
    with pytest.raises(UsageError, match="1 data sets for 2 adapters"):
        run(report(opened, SkillOptions(data=("counts",)), store))


def test_a_skill_that_gains_nothing_has_nothing_to_keep() -> None:
    assert shares_kept([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [1.0, 2.0, 2.0]) == [1.0, 1.0, 0.0]
    assert softmax([1.0, 1.0], 5.0) == [0.5, 0.5]


@pytest.mark.parametrize("options", [SkillOptions(limit=0), SkillOptions(budget=0), SkillOptions(gradient_steps=-1)])
def test_options_that_make_no_sense_are_refused(options: SkillOptions, store: Store, opened: OpenStack) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        run(search(opened, options, store))
