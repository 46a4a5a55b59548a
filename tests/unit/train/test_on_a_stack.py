"""A new adapter over a frozen stack: what it learns on, what it keeps, what is written down."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.core.files import sha256_file
from nomoat.core.records import Step, returned
from nomoat.core.store import Store, read_lineage
from nomoat.engine.names import open_stack
from nomoat.engine.score import loss
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import load_base
from nomoat.train.job import prepare
from nomoat.train.options import TuneOptions, check
from nomoat.train.orthogonal import orthogonality
from nomoat.train.rehearsal import RESERVOIR, reservoir
from nomoat.train.tune import resume, tune
from outcome import finished
from tiny import tiny_folder

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def store(own_home: Path) -> Store:
    """A base, two data sets, and a first adapter that learned one of them."""
    torch.set_num_threads(1)
    store = Store(own_home)
    tiny_folder(own_home / "bases" / "tiny")
    answers = {"colours": "blue sky", "digits": "4 7 9"}
    for name, answer in answers.items():
        with store.writing("data", name) as folder:
            for split, count in (("train", 24), ("valid", 6), ("test", 6)):
                rows = [{"prompt": f"{name} {n}", "completion": answer} for n in range(count)]
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finished(tune(options(data="colours", base="tiny", name="first", keep_rows=5), store))
    return store


def options(**changes: object) -> TuneOptions:
    plain = {"rank": 4, "lr": 1e-2, "epochs": 2.0, "batch_size": 6, "threads": 1, "probe_seconds": 0.0, "eval_rows": 6}
    return TuneOptions(**{**plain, **changes})  # type: ignore[arg-type]


def second(**changes: object) -> TuneOptions:
    return options(**{"data": "digits", "on": "tiny+first:0.8", "name": "second", **changes})


def test_an_adapter_on_top_reads_other_directions_than_those_below(store: Store) -> None:
    """From one seed all would start with one A, and the sum of many updates would be no richer than the first."""
    _, worn = open_stack(store, "tiny+first")
    above = returned(prepare(second(), store)).adapter
    again = returned(prepare(second(name="again"), store)).adapter
    for module, delta in worn[0][0].deltas.items():
        both = torch.cat([delta.lora_A, above.deltas[module].lora_A])
        assert torch.linalg.matrix_rank(both) == 8, module
        assert torch.equal(above.deltas[module].lora_A, again.deltas[module].lora_A)


def test_the_stack_below_stays_as_it_is_and_the_new_adapter_learns_on_top_of_it(store: Store) -> None:
    before = sha256_file(store.find("adapters", "first") / WEIGHTS)
    done, said = finished(tune(second(), store))
    assert "tiny+first, adapter of" in said
    assert sha256_file(store.find("adapters", "first") / WEIGHTS) == before
    base, worn = open_stack(store, "tiny+first:0.8+second")
    rows = returned(prepare(second(name="other"), store)).held_out
    assert loss(base, rows, worn)[0] == pytest.approx(done.result["held_out_loss_after"], abs=1e-4)
    assert loss(base, rows, worn[:1])[0] == pytest.approx(done.result["held_out_loss_before"], abs=1e-4)
    assert done.result["held_out_loss_after"] < done.result["held_out_loss_before"]


def test_the_lineage_names_the_stack_and_what_became_of_its_skills(store: Store) -> None:
    finished(tune(second(), store))
    lineage = read_lineage(store.find("adapters", "second"))
    assert lineage is not None
    assert [(parent.kind, parent.name) for parent in lineage.parents] == [
        ("base", "tiny"), ("data", "digits"), ("adapter", "first"),
    ]  # fmt: skip
    assert lineage.parents[2].sha256 == sha256_file(store.find("adapters", "first") / WEIGHTS)
    assert lineage.options["on"] == "tiny+first:0.8"
    skill = lineage.metrics["skills"]["colours"]
    assert skill["adapter"] == "first" and skill["before"] > 0 and skill["after"] > 0
    assert "nomoat chat tiny+first:0.8+second" in (store.find("adapters", "second") / "README.md").read_text()


def test_rehearsal_keeps_an_earlier_skill_better_than_none(store: Store) -> None:
    plain, _ = finished(tune(second(name="plain", on="tiny+first", epochs=4.0), store))
    kept, said = finished(tune(second(name="kept", on="tiny+first", epochs=4.0, rehearse_skills=0.4), store))
    assert "16 of them of earlier skills" in said
    assert kept.result["skills"]["colours"]["after"] < plain.result["skills"]["colours"]["after"]


def test_rows_to_rehearse_come_from_the_adapter_where_its_data_are_gone(store: Store) -> None:
    kept = (store.find("adapters", "first") / RESERVOIR).read_text().splitlines()
    assert len(kept) == 5 and all(json.loads(line)["completion"] == "blue sky" for line in kept)
    store.remove("data", "colours")
    job = returned(prepare(second(rehearse_skills=0.4), store))
    assert sum(source < 0 for source in job.rows.sources) == 5
    assert job.batches(2048).names[-1] == "rehearsed:5"
    (store.find("adapters", "first") / RESERVOIR).unlink()
    with pytest.raises(UsageError, match="rows to rehearse"):
        returned(prepare(second(rehearse_skills=0.4), store))


def test_rows_do_not_travel_where_their_licence_forbids_it(store: Store) -> None:
    with pytest.raises(UsageError, match="does not allow"):
        reservoir(store.find("data", "colours"), 3, licence="cc-by-nd-4.0", seed=0)


def test_the_penalty_is_the_part_of_a_that_lies_where_the_stack_listens(store: Store) -> None:
    base, worn = open_stack(store, "tiny+first")
    fresh = base.new_adapter(AdapterConfig(rank=3, target_modules=("q_proj",)), seed=5, name="fresh")
    expected = 0.0
    for module, delta in fresh.deltas.items():
        old = worn[0][0].deltas[module].lora_A.detach()
        projector = torch.linalg.pinv(old) @ old
        expected += float((delta.lora_A.detach() @ projector).square().sum())
    penalty = orthogonality(fresh, worn, 0.5)
    assert penalty().item() == pytest.approx(0.5 * expected, rel=1e-3)
    penalty().backward()
    assert all(delta.lora_A.grad is not None for delta in fresh.deltas.values())
    with torch.no_grad():
        for module, delta in fresh.deltas.items():
            old = worn[0][0].deltas[module].lora_A
            delta.lora_A.copy_(torch.linalg.svd(old)[2][-3:])
    assert penalty().item() == pytest.approx(0.0, abs=1e-8)


def test_the_penalty_turns_the_new_adapter_away_from_the_stack(store: Store) -> None:
    spent = {}
    for name, weight in (("free", 0.0), ("turned", 3.0)):
        finished(tune(second(name=name, orthogonal=weight, epochs=6.0, eval_rows=0), store))
        _, worn = open_stack(store, f"tiny+first+{name}")
        spent[name] = orthogonality(worn[1][0], worn[:1], 1.0)().item()
    assert spent["turned"] < 0.5 * spent["free"]


def test_a_run_over_a_stack_that_was_stopped_goes_on_to_the_same_bytes(store: Store) -> None:
    settings = second(rehearse_skills=0.3, orthogonal=0.1)
    finished(tune(settings, store))
    whole = (store.find("adapters", "second") / WEIGHTS).read_bytes()
    cut = tune(dataclasses.replace(settings, name="again"), store)
    for record in cut:
        if isinstance(record, Step) and record.step == 3:
            cut.close()
            break
    finished(resume("again-1", store))
    assert (store.find("adapters", "again") / WEIGHTS).read_bytes() == whole


def test_a_run_does_not_go_on_over_a_stack_that_has_changed(store: Store) -> None:
    cut = tune(second(), store)
    for record in cut:
        if isinstance(record, Step):
            cut.close()
            break
    finished(tune(options(data="digits", base="tiny", name="first", replace=True), store))
    with pytest.raises(UsageError, match="under first was"):
        finished(resume("second-1", store))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "tiny"}, "both name a base"),
        ({"on": "", "base": "tiny", "rehearse_skills": 0.2}, "need adapters to keep"),
        ({"on": "", "base": "tiny", "orthogonal": 0.2}, "need adapters to keep"),
        ({"rehearse_skills": 0.95}, "too little to learn"),
        ({"rehearse_skills": -0.1}, "--rehearse-skills"),
        ({"top_layers": 1}, "--top-layers and --on"),
        ({"on": ""}, "--base is missing"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(second(**changes))


def test_a_bare_base_is_not_a_stack(store: Store) -> None:
    with pytest.raises(UsageError, match="wears no adapter"):
        returned(prepare(second(on="tiny"), store))


def test_an_adapter_brings_its_base_and_the_run_writes_it_down(store: Store) -> None:
    job = returned(prepare(second(on="first"), store))
    assert job.options.base == "tiny" and job.base.name == "tiny"
    assert load_base(store.find("bases", "tiny")).fingerprint.exact == job.made_of["base"]
