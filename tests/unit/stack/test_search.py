"""Skills that were really learned on a tiny base: subsets, and the search for weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Record, returned
from nomoat.core.store import Store, read_lineage
from nomoat.engine.score import loss
from nomoat.model.adapters import adaptable
from nomoat.stack.artefact import WEIGHTS_FILE, WEIGHTS_PICTURE
from nomoat.stack.coefficients import found_coefficients, weighted
from nomoat.stack.grid import grid_of
from nomoat.stack.job import OpenStack, open_parts, stack
from nomoat.stack.options import NATS, CombineOptions, SkillOptions
from nomoat.stack.report import HEAT_FILE, REPORT_FILE, report
from nomoat.stack.search import search
from nomoat.stack.search_plan import Timing, plan_search
from nomoat.stack.skills import read_skills, shares_kept
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune
from outcome import finished
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


def searched(opened: OpenStack, options: SkillOptions, store: Store) -> tuple[Done, str, OpenStack]:
    found: list[OpenStack] = []

    def records() -> Iterator[Record]:
        found.append((yield from search(opened, options, store)))

    return *finished(records()), found[0]


def skills_of(store: Store, opened: OpenStack, split: str = "valid") -> tuple:
    reading = read_skills(store, opened.base, opened.worn, opened.folders, data=(), split=split, limit=8)
    return returned(reading)


def test_the_report_has_every_subset_and_says_what_is_left_of_each_gain(store: Store, opened: OpenStack) -> None:
    done, _ = finished(report(opened, SkillOptions(limit=8), store))
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


def test_the_search_loses_less_than_the_naive_sum_and_what_it_found_is_saved_as_one_adapter(
    store: Store, opened: OpenStack
) -> None:
    done, said, found = searched(opened, SkillOptions(limit=8, budget=6, gradient_steps=20, grain="core"), store)
    result = done.result
    assert set(result["weights"]) == {"count", "colour"}
    assert "of its own gain" in said and "will take about" in said
    valid = skills_of(store, opened)
    bare = [loss(opened.base, skill.rows)[0] for skill in valid]
    alone = [loss(opened.base, skill.rows, (part,))[0] for skill, part in zip(valid, opened.worn)]
    naive = shares_kept([loss(opened.base, skill.rows, opened.worn)[0] for skill in valid], bare, alone)
    assert min(result["kept_valid"]) >= min(naive) - 1e-6
    assert all(min(each["kept"]) >= 0.95 for each in result["within"])
    again = shares_kept([loss(opened.base, skill.rows, found.worn)[0] for skill in valid], bare, alone)
    assert again == pytest.approx(result["kept_valid"], abs=2e-3)
    made, _ = finished(stack(found, CombineOptions(), store, name="both", replace=True))
    together = opened.base.load_adapter(store.find("adapters", "both"))
    one = shares_kept([loss(opened.base, skill.rows, ((together, 1.0),))[0] for skill in valid], bare, alone)
    assert one == pytest.approx(again, abs=1e-4)
    assert made.result["rank_before"] == 8


def test_finer_weights_are_written_beside_the_adapter_as_figures_and_as_a_picture(
    store: Store, opened: OpenStack
) -> None:
    grid = grid_of(opened.adapters, "module", adaptable(opened.base.decoder))
    values = [0.5 + 0.01 * place for place in range(grid.count)]
    finer = found_coefficients(grid, torch.tensor(values))
    found = dataclasses.replace(opened, worn=weighted(grid, torch.tensor(values)), coefficients=finer)
    done, _ = finished(stack(found, CombineOptions(), store, name="fine", replace=True))
    assert done.path is not None and (done.path / WEIGHTS_PICTURE).read_bytes().startswith(b"\x89PNG")
    figures = json.loads((done.path / WEIGHTS_FILE).read_text())
    assert figures["grain"] == "module" and len(figures["shares"]["count"]) == 14
    assert sorted(figures["shares"]["count"].values()) == pytest.approx(values[::2], abs=1e-5)
    lineage = read_lineage(done.path)
    assert lineage is not None and lineage.options["grain"] == "module"
    assert lineage.options["weights"] == figures["weights"] and 0.5 < figures["weights"]["count"] < 0.78
    assert "one weight for each module" in (done.path / "README.md").read_text()


def test_weights_are_found_without_a_look_at_the_test_rows(store: Store, opened: OpenStack) -> None:
    options = SkillOptions(limit=8, budget=2, gradient_steps=4, grain="module")
    first, _, one = searched(opened, options, store)
    files = [store.find("data", name) / "test.jsonl" for name in ("counts", "colours")]
    kept = [file.read_text() for file in files]
    try:
        for file in files:
            file.write_text(json.dumps({"prompt": "other", "completion": "words altogether"}) + "\n")
        second, _, other = searched(opened, options, store)
    finally:
        for file, text in zip(files, kept):
            file.write_text(text)
    assert one.coefficients == other.coefficients and first.result["weights"] == second.result["weights"]
    assert first.result["kept_test"] != second.result["kept_test"]


def test_a_plan_does_what_was_asked_or_what_fits_into_the_time() -> None:
    options = SkillOptions(budget=10, gradient_steps=40, finalists=3)
    whole = plan_search(options, Timing(weighting_s=2.0, step_s=1.0, score_s=5.0, own_score=True))
    assert (whole.weightings, whole.steps) == (10, 40)
    assert whole.seconds == pytest.approx(20 + 40 + 8 / 4 * 2 + 5 * (4 + 4)) and "40 steps" in str(whole)
    short = plan_search(options, Timing(2.0, 1.0, 0.5, own_score=False), left_s=40.0)
    assert 1 <= short.weightings < 10 and 0 < short.steps < 40 and short.seconds <= 40.0
    none = plan_search(options, Timing(2.0, 1.0, 5.0, own_score=True), left_s=3.0)
    assert (none.weightings, none.steps) == (1, 0)
    assert plan_search(options, Timing(2.0, 0.0, 2.0, own_score=False)).steps == 0


def test_data_sets_can_be_named_and_missing_ones_are_said(store: Store, opened: OpenStack) -> None:
    done, _ = finished(report(opened, SkillOptions(limit=4, data=("colours", "counts")), store))
    assert [skill["data"] for skill in done.result["scores"]["skills"]] == ["colours", "counts"]
    with pytest.raises(UsageError, match="1 data sets for 2 adapters"):
        finished(report(opened, SkillOptions(data=("counts",)), store))


def test_a_skill_that_gains_nothing_has_nothing_to_keep() -> None:
    assert shares_kept([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [1.0, 2.0, 2.0]) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SkillOptions(limit=0), "cannot be"),
        (SkillOptions(budget=0), "cannot be"),
        (SkillOptions(gradient_steps=-1), "cannot be"),
        (SkillOptions(grain="row"), "no grain"),
        (SkillOptions(minutes=0.0), "no time"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: SkillOptions, said: str, store: Store, opened: OpenStack
) -> None:
    with pytest.raises(UsageError, match=said):
        finished(search(opened, options, store))
