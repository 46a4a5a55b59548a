"""A whole judgement on a tiny real base and an adapter that was really trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.records import Done, Note, Progress, Record, Sample, Saved
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.data.encode import encode_rows
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.pack import pack
from nomoat.data.rows import Row
from nomoat.engine.generate import Engine, Request
from nomoat.engine.names import open_stack
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import loss
from nomoat.judge.compare import judge
from nomoat.judge.options import JudgeOptions
from nomoat.judge.task import prompt_of
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from outcome import ended, notes
from tiny import tiny_base

CONTEXT = 256


def rows_of(count: int, start: int = 0) -> list[Row]:
    """Every question has the same answer: a tiny model learns that in a few steps."""
    return [{"prompt": f"say it {n}", "completion": "yes"} for n in range(start, start + count)]


def yes_or_no(count: int) -> list[Row]:
    return [
        {"prompt": f"{'up' if n % 3 else 'down'} {n}", "completion": "yes" if n % 3 else "no"} for n in range(count)
    ]


def write_data(store: Store, name: str, test: list[Row], train: list[Row] | None = None) -> None:
    with store.writing("data", name) as folder:
        for split, rows in (("train", train or test), ("valid", []), ("test", test)):
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_lineage(folder, Lineage(kind="data", name=name))


def trained_on(base: Base, rows: list[Row], steps: int) -> Adapter:
    adapter = base.new_adapter(AdapterConfig(rank=8, alpha=16), seed=0, name="scribe")
    encoded = encode_rows(rows, base.tokenizer, base.template, EncodeOptions(max_seq_len=CONTEXT)).rows
    batch = pack(encoded, 4096)[0]
    for step in range(steps):
        layout = Layout(lengths=batch.lengths)
        losses = base.decoder.next_token_losses(batch.tokens, layout, batch.loss_mask, ((adapter, 1.0),))
        losses.nll.mean().backward()
        _step_down(adapter, 0.02 * (1 - step / steps))
    return adapter


def _step_down(adapter: Adapter, size: float) -> None:
    """Move every number by ``size`` against its gradient: enough of an optimiser for one answer."""
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            assert parameter.grad is not None
            parameter.sub_(size * parameter.grad.sign())
            parameter.grad = None


def add_adapter(store: Store, adapter: Adapter, name: str, data: str, **options: Any) -> None:
    with store.writing("adapters", name) as folder:
        save_adapter(adapter, folder)
        parents = (Parent("base", "tiny", ""), Parent("data", data, ""))
        write_lineage(folder, Lineage(kind="adapter", name=name, parents=parents, options=options))


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("home")
    store = Store(home)
    base = tiny_base(home / "bases" / "tiny", max_position_embeddings=CONTEXT)
    write_data(store, "yes", rows_of(10), rows_of(16, start=100))
    add_adapter(store, trained_on(base, rows_of(16, start=100), steps=50), "scribe", "yes", chat="auto")
    add_adapter(store, base.new_adapter(AdapterConfig(rank=2), seed=0, name="idle"), "idle", "yes", chat="auto")
    return home


@pytest.fixture
def store(trained_home: Path, own_home: Path) -> Store:
    """A home of the test's own with the tiny base, the data and two adapters."""
    shutil.copytree(trained_home, own_home)
    return Store(own_home)


class Judged(NamedTuple):
    records: list[Record]
    done: Done

    @property
    def result(self) -> dict[str, Any]:
        return self.done.result


def judged(store: Store, model: str = "scribe", **options: Any) -> Judged:
    asked = JudgeOptions(model=model, **{"forgetting": False, **options})
    return Judged(*ended(judge(asked, store)))


def test_an_adapter_that_learned_its_answer_is_better_in_answers_and_in_loss(store: Store) -> None:
    result = judged(store).result
    assert (result["verdict"], result["headline"]) == ("better", "answers")
    assert result["counts"] == {"fixed": 10, "broken": 0, "both_right": 0, "both_wrong": 0}
    assert result["answers"]["difference"]["value"] == 1.0
    assert result["loss"]["verdict"] == "better"
    assert result["failures"] == []
    assert (result["base"], result["data"], result["split"], result["rows"]) == ("tiny", "yes", "test", 10)
    assert result["stack"] == [{"adapter": "scribe", "weight": 1.0}]


def test_the_check_is_chosen_and_the_reason_said(store: Store) -> None:
    records, done = judged(store)
    assert done.result["check"]["name"] == "normalised"
    assert done.result["check"]["chosen_by"] == "nomoat"
    said = notes(records)
    assert "normalised" in said[0]
    assert "short" in said[0]


def test_every_row_is_told_as_a_sample_and_kept_with_its_outcome(store: Store) -> None:
    records, done = judged(store)
    samples = [record for record in records if isinstance(record, Sample)]
    assert [sample.after for sample in samples] == ["yes"] * 10
    assert [sample.correct_before for sample in samples] == [False] * 10
    saved = next(record for record in records if isinstance(record, Saved))
    assert json.loads((saved.path / "result.json").read_text()) == done.result
    assert done.result["outcomes"][3]["prompt"] == "say it 3"


def test_answers_are_those_of_the_engine_and_losses_those_of_the_scorer(store: Store) -> None:
    result = judged(store).result
    base, worn = open_stack(store, "scribe")
    encoded = encode_rows(rows_of(10), base.tokenizer, base.template, EncodeOptions(max_seq_len=CONTEXT)).rows
    sampling = Sampling(max_tokens=result["sampling"]["max_tokens"])
    for side, stack in (("before", ()), ("after", worn)):
        mean, tokens = loss(base, encoded, stack)
        assert result["loss"][side]["value"] == pytest.approx(mean, abs=1e-5)
        assert sum(outcome["tokens"] for outcome in result["outcomes"]) == tokens
        (answer,) = Engine(base).complete([Request(prompt_of(encoded[5]), sampling, stack)])
        assert result["outcomes"][5][side] == answer.text


def test_an_adapter_that_changes_nothing_leaves_nothing_to_tell_and_forgets_nothing(store: Store) -> None:
    result = judged(store, "idle", forgetting=True).result
    assert result["verdict"] == "cannot tell"
    assert result["loss"]["difference"]["value"] == pytest.approx(0, abs=1e-6)
    assert result["forgetting"]["verdict"] == "kept"
    assert [part["rows"] for part in result["forgetting"]["parts"]] == [61, 64]


def test_what_the_bare_base_did_is_kept_and_not_measured_again(store: Store) -> None:
    def measured(records: list[Record]) -> set[str]:
        return {record.stage for record in records if isinstance(record, Progress)}

    first, second = judged(store), judged(store)
    assert measured(first.records) == {
        "held-out loss, before",
        "answers, before",
        "held-out loss, after",
        "answers, after",
    }
    assert measured(second.records) == {"held-out loss, after", "answers, after"}
    assert second.result["outcomes"] == first.result["outcomes"]


def test_a_damaged_memory_of_the_base_is_measured_again(store: Store) -> None:
    first = judged(store)
    for kept in (store.home / "cache").glob("before-*.json"):
        kept.write_text("{ damaged")
    assert judged(store).result["outcomes"] == first.result["outcomes"]


def test_other_rows_or_longer_answers_are_not_taken_from_memory(store: Store) -> None:
    judged(store)
    shorter = judged(store, max_tokens=1)
    assert any(isinstance(record, Progress) and record.stage == "answers, before" for record in shorter.records)
    assert judged(store, limit=5).result["rows"] == 5


def test_an_adapter_at_weight_zero_is_the_base(store: Store) -> None:
    result = judged(store, "tiny+scribe:0").result
    assert result["counts"]["fixed"] == 0
    assert all(outcome["before"] == outcome["after"] for outcome in result["outcomes"])


def test_the_base_alone_has_no_after(store: Store) -> None:
    with pytest.raises(UsageError, match="wears no adapter"):
        judged(store, "tiny", data="yes")


def test_held_out_loss_judges_no_answers_but_writes_a_few_to_look_at(store: Store) -> None:
    result = judged(store, check="loss").result
    assert (result["headline"], result["counts"], result["answers"]) == ("loss", None, None)
    assert (result["verdict"], result["failures"]) == ("better", [])
    assert [outcome["after"] for outcome in result["outcomes"]] == ["yes"] * 3 + [None] * 7
    assert {outcome["correct_after"] for outcome in result["outcomes"]} == {None}


def test_plain_text_is_judged_by_its_loss_however_long(store: Store) -> None:
    write_data(store, "text", [{"text": f"{n} " + "yes and no " * 80} for n in range(10)])
    result = judged(store, data="text").result
    assert result["headline"] == "loss"
    assert result["outcomes"][0]["tokens"] > CONTEXT
    assert result["outcomes"][0]["after"] is None


def test_a_choice_is_the_allowed_answer_with_the_highest_likelihood(store: Store) -> None:
    write_data(store, "either", yes_or_no(15))
    result = judged(store, data="either").result
    assert result["check"]["choices"] == ["yes", "no"]
    assert {outcome["after"] for outcome in result["outcomes"]} == {"yes"}
    base, worn = open_stack(store, "scribe")
    likeliest = []
    for answer in ("yes", "no"):
        row: Row = {"prompt": "down 0", "completion": answer}
        encoded = encode_rows([row], base.tokenizer, base.template, EncodeOptions(max_seq_len=CONTEXT)).rows
        mean, tokens = loss(base, encoded, worn)
        likeliest.append(mean * tokens)
    assert (likeliest[0] < likeliest[1]) == (result["outcomes"][0]["after"] == "yes")


def test_the_users_function_can_be_the_judge(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def backwards(answer, expected):\n    return answer == 'yes'[::1]\n")
    result = judged(store, check=f"python:{tmp_path / 'mine.py'}:backwards", max_tokens=6).result
    assert result["counts"]["fixed"] == 10
    assert result["check"]["chosen_by"] == "user"


def test_a_file_of_rows_is_judged_whole_with_a_warning(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(7, start=50)))
    records, done = judged(store, data=str(path))
    assert (done.result["rows"], done.result["split"], done.result["data"]) == (7, "all", "more.jsonl")
    assert any(isinstance(record, Note) and record.warning for record in records)


def test_rows_that_cannot_be_judged_are_counted_with_the_reason(store: Store) -> None:
    odd: list[Row] = [{"prompt": "long " * 200, "completion": "yes"}, {"text": "a text asks nothing"}]
    write_data(store, "odd", rows_of(10) + odd)
    result = judged(store, data="odd", check="exact").result
    assert result["rows"] == 10
    assert {skipped["count"] for skipped in result["skipped"]} == {1}
    assert {skipped["reason"] for skipped in result["skipped"]} == {
        "longer than 256 tokens",
        "there is no answer to compare",
    }


def test_rows_are_encoded_as_the_adapter_was_trained(store: Store) -> None:
    base, _ = open_stack(store, "idle")
    add_adapter(store, base.new_adapter(AdapterConfig(rank=2), seed=0, name="raw"), "raw", "yes", chat="raw")
    raw, chat = judged(store, "raw").result, judged(store, "idle").result
    assert raw["loss"]["before"]["value"] != pytest.approx(chat["loss"]["before"]["value"], abs=1e-3)


def test_a_data_set_without_held_out_rows_is_refused(store: Store) -> None:
    write_data(store, "none", [], rows_of(4))
    with pytest.raises(NotFound, match="no held-out rows"):
        judged(store, data="none")


def test_an_adapter_that_does_not_name_its_data_asks_for_it(store: Store) -> None:
    shutil.rmtree(store.path("data", "yes"))
    with pytest.raises(UsageError, match="trained on") as caught:
        judged(store)
    assert "--data" in caught.value.hint


def test_stopping_in_the_middle_leaves_no_result(store: Store) -> None:
    records: Iterator[Record] = judge(JudgeOptions(model="scribe", forgetting=False), store)
    while not (isinstance(record := next(records), Progress) and record.stage == "answers, after"):
        pass
    records.close()  # type: ignore[attr-defined]
    assert store.names("runs") == []


@pytest.mark.parametrize("field", ["limit", "max_tokens", "tolerance"])
def test_negative_amounts_are_refused(field: str) -> None:
    with pytest.raises(UsageError, match="cannot be -1"):
        JudgeOptions(**{field: -1})


def test_generation_starts_before_the_last_learned_run() -> None:
    ids = list(range(10))
    mask = [False, False, True, True, False, False, True, True, True, False]
    assert prompt_of(Encoded(ids=ids, loss_mask=mask)) == [0, 1, 2, 3, 4, 5]
