"""A whole move on tiny real bases: learned, judged, kept or set apart, recorded, and gone on with."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from nomoat.api import answer
from nomoat.core.errors import UsageError
from nomoat.core.files import sha256_file
from nomoat.core.records import Done, Note, Progress, Step
from nomoat.core.store import Store, read_lineage
from nomoat.data.load import load_rows
from nomoat.engine.names import CACHE_FOLDER, open_stack
from nomoat.judge.compare import judge
from nomoat.judge.options import JudgeOptions
from nomoat.move.job import move
from nomoat.move.options import MoveOptions
from nomoat.train.distil import TEACHER_FILE
from outcome import finished

WEIGHTS = "adapter_model.safetensors"
OPTIONS = MoveOptions(
    stack="old+colour+count", to="other", name="moved", rank=8, lr=1e-2, epochs=5.0, threads=1, probe_seconds=0.0,
    learn="words",
)  # fmt: skip


def moved(store: Store, **changes: object) -> tuple[Done, str]:
    return finished(move(dataclasses.replace(OPTIONS, **changes), store))  # type: ignore[arg-type]


def old_bytes(store: Store) -> dict[str, str]:
    return {
        str(path.relative_to(store.home)): sha256_file(path)
        for name in ("adapters/colour", "adapters/count", "data/colours", "bases/old")
        for path in sorted((store.home / name).rglob("*"))
        if path.is_file()
    }


@dataclasses.dataclass(frozen=True)
class Settled:
    """A house after the plain move, to look at."""

    store: Store
    done: Done
    said: str


@pytest.fixture(scope="module")
def settled(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Settled:
    home = tmp_path_factory.mktemp("settled") / "home"
    shutil.copytree(furnished, home)
    return Settled(Store(home), *moved(Store(home)))


def test_skills_go_to_another_architecture_and_tokenizer_and_pass(settled: Settled, furnished: Path) -> None:
    store, done, said = settled.store, settled.done, settled.said
    assert "learning its words" in said and done.result["learned"] == "words"
    assert [line["skill"] for line in done.result["skills"]] == ["colours", "counts"]
    assert done.result["passed"], said
    for line in done.result["skills"]:
        assert line["moved"]["value"] > line["new_base"]["value"]
        assert line["kept"]["value"] >= 0.9 and line["kept"]["low"] <= line["kept"]["value"] <= line["kept"]["high"]
    assert done.path == store.path("adapters", "moved")
    assert "moved-unproven" not in store.names("adapters")
    assert old_bytes(store) == old_bytes(Store(furnished))
    judged, _ = finished(judge(JudgeOptions(model="other+moved", forgetting=False), store))
    assert judged.result["data"] == "moved-rows" and judged.result["rows"] == 16


def test_what_was_moved_says_where_it_comes_from_and_whose_terms_bind_it(settled: Settled) -> None:
    store = settled.store
    lineage = read_lineage(store.path("adapters", "moved"))
    assert lineage is not None and lineage.name == "moved"
    assert [(parent.kind, parent.name) for parent in lineage.parents] == [
        ("base", "other"), ("data", "moved-rows"), ("adapter", "colour"), ("adapter", "count"),
    ]  # fmt: skip
    assert lineage.licence == "cc-by-4.0"
    assert lineage.details["moved"]["passed"] and lineage.details["moved"]["stack"] == "old+colour+count"
    assert [each["skill"] for each in lineage.metrics["retention"]] == ["colours", "counts"]
    rows = read_lineage(store.path("data", "moved-rows"))
    assert rows is not None and rows.licence == "cc-by-4.0"
    assert [parent.name for parent in rows.parents] == ["old", "colour", "count", "colours", "counts"]
    card = (store.path("adapters", "moved") / "README.md").read_text()
    assert "nomoat chat other+moved" in card and "| colours | 8 |" in card


def test_where_they_do_not_it_may_learn_what_the_stack_thought_of_what_both_cut_alike(store: Store) -> None:
    done, said = moved(store, learn="aligned")
    assert "where both cut them alike" in said and done.result["learned"] == "aligned"
    assert "is cut alike by both" in said and done.result["passed"], said
    assert (store.path("data", "moved-rows") / TEACHER_FILE).is_file()


def test_where_tokenizers_agree_the_student_learns_what_the_stack_thought(store: Store) -> None:
    done, said = moved(store, to="alike", epochs=6.0, learn="auto")
    assert "one tokenizer" in said and done.result["learned"] == "logits"
    assert done.result["passed"], said
    folder = store.path("data", "moved-rows")
    assert (folder / TEACHER_FILE).is_file()
    answers = {row["completion"] for row in load_rows(folder, "train")}
    assert "blue sky" in answers and "four" in answers
    lineage = read_lineage(store.path("adapters", "moved"))
    assert lineage is not None and lineage.options["distil"]
    assert lineage.details["loss"] == "divergence from the teacher"


def test_a_skill_that_is_lost_stays_apart_and_the_name_is_free(store: Store) -> None:
    before = old_bytes(store)
    done, said = moved(store, lr=1e-6, max_steps=1)
    assert not done.result["passed"] and "not passed" in said
    assert done.path == store.path("adapters", "moved-unproven")
    assert "moved" not in store.names("adapters")
    lineage = read_lineage(done.path)
    assert lineage is not None and lineage.details["moved"]["passed"] is False
    assert old_bytes(store) == before


def test_a_teacher_that_is_worse_than_the_new_base_is_named_before_the_lesson(store: Store) -> None:
    told = []
    for record in move(dataclasses.replace(OPTIONS, stack="old+colour:-3", check="loss"), store):
        if isinstance(record, Note):
            told.append(record.text)
        if isinstance(record, Progress) and record.stage == "the old stack answers":
            break
    assert any("colours: other alone is better at it than old+colour:-3" in text for text in told)


def test_an_adapter_of_that_name_is_replaced_only_by_one_that_passed(settled: Settled, own_home: Path) -> None:
    shutil.copytree(settled.store.home, own_home)
    store = Store(own_home)
    whole = sha256_file(store.path("adapters", "moved") / WEIGHTS)
    with pytest.raises(UsageError, match="already"):
        moved(store)
    done, _ = moved(store, lr=1e-6, max_steps=1, replace=True)
    assert not done.result["passed"]
    assert sha256_file(store.path("adapters", "moved") / WEIGHTS) == whole


def test_every_row_of_the_trial_is_kept(settled: Settled) -> None:
    result = json.loads((Path(settled.done.result["trial"]) / "result.json").read_text())
    assert len(result["outcomes"]) == 16
    first = result["outcomes"][0]
    assert first["skill"] == "colours" and first["expected"] == "blue sky" and set(first["value"]) == {
        "old_base", "old_stack", "new_base", "moved",
    }  # fmt: skip


def test_a_move_that_was_stopped_while_answering_goes_on_with_the_answers_it_has(
    store: Store, settled: Settled
) -> None:
    cut = move(dataclasses.replace(OPTIONS, max_steps=2), store)
    for record in cut:
        if isinstance(record, Progress) and record.stage == "the old stack answers" and record.done == 20:
            cut.close()
            break
    notes = next((store.home / CACHE_FOLDER).glob("answers-*.train"))
    notes.write_bytes(notes.read_bytes() + b'[3, "cut sh')
    _, said = moved(store, max_steps=2)
    assert "of 64 answers are there from before" in said
    for split in ("train", "valid"):
        uncut, resumed = (load_rows(each.path("data", "moved-rows"), split) for each in (settled.store, store))
        assert resumed == uncut
    assert not list((store.home / CACHE_FOLDER).glob("answers-*"))


def test_a_move_that_was_stopped_while_training_goes_on_with_the_run(store: Store, settled: Settled) -> None:
    cut = move(OPTIONS, store)
    for record in cut:
        if isinstance(record, Step) and record.step == 12:
            cut.close()
            break
    done, said = moved(store)
    assert "what the old stack says is there from before" in said and "resuming moved-unproven-1 after step 12" in said
    assert done.path is not None and settled.done.path is not None
    assert sha256_file(done.path / WEIGHTS) == sha256_file(settled.done.path / WEIGHTS)


def test_a_student_that_is_there_is_not_trained_again(store: Store) -> None:
    moved(store, keep=50.0, limit=2)
    done, said = moved(store, limit=2)
    assert "the student is there from before" in said
    assert done.result["passed"]


def test_the_rows_own_answers_can_be_learned_instead(store: Store) -> None:
    done, said = moved(store, answers="rows", rows=10, eval_rows=4, limit=2, max_steps=2)
    folder = store.path("data", "moved-rows")
    assert [len(load_rows(folder, split)) for split in ("train", "valid")] == [20, 8]
    assert "answers are there" not in said and done.what == "move"
    prompts = [row["prompt"].split()[0] for row in load_rows(folder, "valid")]
    assert prompts[:4] == ["colours", "counts", "colours", "counts"]


def test_skills_whose_data_are_gone_come_from_the_rows_that_the_adapter_kept(store: Store) -> None:
    store.remove("data", "colours")
    done, said = moved(store, max_steps=2)
    assert "favours the old one" in said
    lines = {line["skill"]: line for line in done.result["skills"]}
    assert set(lines) == {"colour", "counts"} and 0 < lines["colour"]["rows"] < 20
    (store.path("adapters", "colour") / "rehearsal.jsonl").unlink()
    with pytest.raises(UsageError, match="kept no rows"):
        moved(store, name="next")


def test_rows_can_be_given_as_a_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"colours {n}", "completion": "blue sky"}) + "\n" for n in range(60)))
    done, _ = moved(store, data=(str(path),), stack="old+colour", max_steps=2, limit=2)
    assert [line["skill"] for line in done.result["skills"]] == ["mine"]


def test_the_time_is_predicted_and_nothing_is_left_behind(store: Store) -> None:
    before = sorted(str(path) for path in store.home.rglob("*") if path.is_file() and CACHE_FOLDER not in path.parts)
    done, said = moved(store, dry_run=True, probe_seconds=0.5, learn="auto")
    plan = done.result
    assert done.what == "plan" and plan["rows"] == 64 and "prediction:" in said
    assert 0 < plan["low_s"] <= plan["seconds"] <= plan["high_s"]
    assert plan["seconds"] == pytest.approx(
        plan["answers_s"] + plan["choice_s"] + plan["training"]["seconds"] + plan["judging_s"]
    )
    assert plan["choice_s"] > 0 and "trial of two ways" in said
    after = sorted(str(path) for path in store.home.rglob("*") if path.is_file() and CACHE_FOLDER not in path.parts)
    assert after == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stack": "old"}, "wears no adapter"),
        ({"to": "old"}, "stands on 'old' already"),
        ({"to": ""}, "--to is missing"),
        ({"learn": "logits"}, "different tokens"),
        ({"keep": -1.0}, "--keep cannot be"),
        ({"top_k": 0}, "--top-k cannot be"),
        ({"answers": "rows", "temperature": 0.5}, "--temperature"),
        ({"dry_run": True}, "--probe-seconds 0"),
    ],
)
def test_what_cannot_be_moved_is_refused_at_once(store: Store, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        moved(store, **changes)


def test_what_was_moved_answers_as_the_old_stack_did(settled: Settled) -> None:
    said = [answer(model, "colours 61", store=settled.store) for model in ("other+moved", "old+colour+count")]
    assert said == ["blue sky", "blue sky"]
    assert open_stack(settled.store, "other+moved")[1][0][0].base_name == "other"
