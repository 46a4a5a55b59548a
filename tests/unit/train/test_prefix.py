"""The frozen layers under an adapter on the top layers: the same run, with less of it computed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Progress, Record, Step
from nomoat.core.store import Store
from nomoat.data.pack import pack
from nomoat.model.cache import Layout
from nomoat.model.template import Encoded
from nomoat.train.options import TuneOptions
from nomoat.train.prefix import PrefixCache, cached_tokens, computed, row_bytes
from nomoat.train.tune import resume, tune
from tiny import tiny_base, tiny_folder

LAYERS = 4


@pytest.fixture
def options(tmp_path: Path) -> TuneOptions:
    rows = [{"prompt": f"Half of {2 * i}?", "completion": f"It is {i}"} for i in range(40)]
    (tmp_path / "halves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TuneOptions(
        data=str(tmp_path / "halves.jsonl"),
        base=str(tiny_folder(tmp_path / "base", num_hidden_layers=LAYERS)),
        name="whole",
        rank=4,
        lr=5e-3,
        epochs=2.0,
        batch_size=4,
        eval_rows=4,
        eval_every=5,
        threads=1,
        probe_seconds=0.0,
        top_layers=1,
    )


def finished(options: TuneOptions) -> tuple[list[Record], bytes]:
    records = list(tune(options, Store()))
    return records, weights(options.name)


def weights(name: str) -> bytes:
    return (Store().find("adapters", name) / "adapter_model.safetensors").read_bytes()


def rows_of(lengths: list[int]) -> list[Encoded]:
    return [Encoded([(7 * i + j) % 200 for j in range(n)], [True] * n) for i, n in enumerate(lengths)]


def test_going_on_from_what_enters_a_layer_is_the_whole_forward(tmp_path: Path) -> None:
    base = tiny_base(tmp_path, num_hidden_layers=LAYERS)
    [piece] = pack(rows_of([5, 1, 9]), 64)
    layout = Layout(piece.lengths)
    whole = base.decoder(piece.tokens, layout)
    for layer in range(LAYERS + 1):
        torch.testing.assert_close(base.decoder(piece.tokens, layout, below=computed(base, layer)(piece)), whole)


def test_the_cache_gives_back_the_bits_that_it_was_made_of_and_less_in_bf16(tmp_path: Path) -> None:
    base, rows = tiny_base(tmp_path / "base", num_hidden_layers=LAYERS), rows_of([5, 1, 9, 30, 5])
    exact = computed(base, 2)
    for kind, tolerance in (("float32", 0.0), ("bf16", 2**-8)):
        cache = PrefixCache(tmp_path / kind, base, 2, kind, [*rows, rows[0]])
        list(cache.fill())
        for piece in pack(rows[::-1], 16):
            expected = exact(piece).hidden
            torch.testing.assert_close(cache(piece).hidden, expected, rtol=tolerance, atol=0.0)
        on_disk = sum(path.stat().st_size for path in (tmp_path / kind).rglob("*.safetensors"))
        assert 0 <= on_disk - cached_tokens([*rows, rows[0]]) * row_bytes(32, kind) < 300


def test_a_filled_cache_is_not_computed_again_and_a_damaged_part_is(tmp_path: Path) -> None:
    base, rows = tiny_base(tmp_path / "base", num_hidden_layers=LAYERS), rows_of([5, 9])
    first, second = (PrefixCache(tmp_path, base, 2, "float32", rows) for _ in range(2))
    assert sum(isinstance(record, Progress) for record in first.fill()) == 2
    assert list(second.fill()) == [] and second.seconds == first.seconds
    part = tmp_path / "prefix" / "0000.safetensors"
    part.write_bytes(part.read_bytes()[:-8])
    third = PrefixCache(tmp_path, base, 2, "float32", rows)
    assert len(list(third.fill())) == 2
    other_layer = PrefixCache(tmp_path, base, 1, "float32", rows)
    assert len(list(other_layer.fill())) == 2


def test_an_exact_cache_ends_with_the_bytes_of_a_run_without_one(options: TuneOptions) -> None:
    records, cached = finished(dataclasses.replace(options, prefix_cache="float32"))
    assert any(isinstance(record, Progress) and "frozen layers" in record.stage for record in records)
    _, again = finished(dataclasses.replace(options, name="again", prefix_cache="none"))
    _, compact = finished(dataclasses.replace(options, name="compact", prefix_cache="bf16"))
    assert cached == again != compact
    assert not (Store().find("runs", "whole-1") / "prefix").exists()
    done = records[-1]
    assert isinstance(done, Done) and 0 < done.result["prefix_seconds"] < done.result["seconds"]


def test_only_the_top_layers_learn_and_peft_is_told_which(options: TuneOptions) -> None:
    finished(dataclasses.replace(options, top_layers=2, max_steps=1))
    config = json.loads((Store().find("adapters", "whole") / "adapter_config.json").read_text())
    assert {name.split(".")[2] for name in config["target_modules"]} == {"2", "3"}
    assert len(config["target_modules"]) == 2 * 7


def test_stopped_and_resumed_it_ends_with_the_same_bytes_and_reads_what_was_cached(options: TuneOptions) -> None:
    _, whole = finished(options)
    records = tune(dataclasses.replace(options, name="cut"), Store())
    while not isinstance(next(records), Step):
        pass
    records.close()
    assert (Store().find("runs", "cut-1") / "prefix" / "0000.safetensors").exists()
    seen = list(resume("cut-1", Store()))
    assert not any(isinstance(record, Progress) and "frozen" in record.stage for record in seen)
    assert weights("cut") == whole
    assert not (Store().find("runs", "cut-1") / "prefix").exists()


def test_a_dry_run_prices_the_frozen_layers_and_their_place_on_disk(options: TuneOptions) -> None:
    def plan(**changes: object) -> tuple[dict[str, float], list[Record]]:
        asked = dataclasses.replace(options, dry_run=True, probe_seconds=0.2, **changes)  # type: ignore[arg-type]
        records = list(tune(asked, Store()))
        assert isinstance(records[-1], Done)
        return records[-1].result, records

    exact, records = plan()
    compact, none = plan(prefix_cache="bf16")[0], plan(prefix_cache="none")[0]
    in_float = exact["disk_bytes"] - none["disk_bytes"]
    assert in_float > 10_000 and compact["disk_bytes"] - none["disk_bytes"] == in_float // 2
    assert any("to run the 3 frozen layers once" in str(record) for record in records)


def test_more_top_layers_than_there_are_and_a_learning_embedding_are_refused(options: TuneOptions) -> None:
    with pytest.raises(UsageError, match="the base has 4 layers"):
        list(tune(dataclasses.replace(options, top_layers=5), Store()))
    with pytest.raises(UsageError, match="leaves the embedding as it is"):
        list(tune(dataclasses.replace(options, target_modules=("q_proj", "embed_tokens")), Store()))


def test_all_layers_on_top_is_the_plain_run(options: TuneOptions) -> None:
    _, all_on_top = finished(dataclasses.replace(options, top_layers=LAYERS, max_steps=3))
    _, plain = finished(dataclasses.replace(options, name="plain", top_layers=0, max_steps=3))
    assert all_on_top == plain
