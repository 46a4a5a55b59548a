"""Which way a student learns, where nobody has said: tried, chosen by the figures, written down, not tried again."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from nomoat.core.errors import ResourceError, UsageError
from nomoat.core.records import Progress
from nomoat.core.store import Store, read_lineage
from nomoat.judge.verdict import compare_means
from nomoat.move.choice import chosen, trial_steps
from nomoat.move.job import move
from nomoat.move.options import MoveOptions
from nomoat.move.relocation import open_relocation
from outcome import finished, outcome

OPTIONS = MoveOptions(
    stack="old+colour+count", to="other", name="moved", rank=8, lr=1e-2, threads=1, probe_seconds=0.0, limit=2,
    max_steps=12,
)  # fmt: skip


def test_a_trial_of_both_ways_decides_and_a_second_start_keeps_to_it(store: Store) -> None:
    done, said = finished(move(OPTIONS, store))
    choice = done.result["choice"]
    assert done.result["learned"] == choice["learn"] and choice["why"] in said and choice["steps"] == 8
    comparison = choice["comparison"]
    assert comparison["rows"] == 8 and comparison["before"]["value"] != comparison["after"]["value"]
    wanted = {"better": "aligned", "worse": "words", "cannot tell": "words"}[comparison["verdict"]]
    assert choice["learn"] == wanted
    assert done.path is not None
    lineage, rows = read_lineage(done.path), read_lineage(store.path("data", "moved-rows"))
    assert lineage is not None and lineage.details["moved"]["choice"] == choice
    assert rows is not None and rows.details["choice"] == choice
    store.remove("adapters", done.path.name)
    again, said = finished(move(OPTIONS, store))
    assert again.result["choice"] == choice and "from before" in said and "held-out loss" not in said


def test_the_trial_is_run_in_the_arithmetic_and_with_the_threads_of_the_training(store: Store, threads: None) -> None:
    stages: dict[str, int] = {}
    for record in move(dataclasses.replace(OPTIONS, precision="int8", threads=2, max_steps=2), store):
        if isinstance(record, Progress):
            stages.setdefault(record.stage, torch.get_num_threads())
    names = list(stages)
    assert names.index("measuring what int8 changes") < names.index("trying two ways to learn")
    assert stages["trying two ways to learn"] == 2


def test_a_trial_that_does_not_fit_into_the_memory_asked_for_is_not_begun(store: Store) -> None:
    with pytest.raises(ResourceError, match="memory"):
        list(move(dataclasses.replace(OPTIONS, memory="1M", probe_seconds=0.5), store))
    assert "moved-rows" not in store.names("data")


def test_what_the_training_would_refuse_is_refused_before_anything_is_answered(store: Store) -> None:
    with pytest.raises(UsageError, match="--probe-seconds 0 measures nothing"):
        for record in move(dataclasses.replace(OPTIONS, memory="4G"), store):
            assert not isinstance(record, Progress)


def test_with_a_handful_of_held_out_rows_nothing_is_tried(store: Store) -> None:
    for name in ("colours", "counts"):
        (store.path("data", name) / "valid.jsonl").write_text(json.dumps({"prompt": name, "completion": "four"}) + "\n")
    done, said = finished(move(OPTIONS, store))
    assert done.result["learned"] == "words" and "2 held-out rows are too few" in said
    assert done.result["choice"]["comparison"] is None


@pytest.mark.parametrize(("gap", "learn"), [(-0.2, "aligned"), (0.2, "words"), (0.0, "words")])
def test_the_better_way_is_taken_and_words_where_nobody_can_tell(gap: float, learn: str) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.05, 40)
    words = np.linspace(1.0, 2.0, 40)
    aligned = words + gap + noise - noise.mean()
    result = compare_means("held-out loss", "nats a token", words, aligned, np.ones(40), higher_is_better=False)
    choice = chosen(result, 8)
    assert choice.learn == learn and ("cannot tell" in choice.why) == (gap == 0.0)


def test_a_trial_is_a_tenth_of_the_training_and_has_bounds(store: Store) -> None:
    moving = outcome(open_relocation(dataclasses.replace(OPTIONS, max_steps=0), store))[1]

    def steps(rows: int, **changes: object) -> int:
        options = dataclasses.replace(moving.options, **changes)
        return trial_steps(dataclasses.replace(moving, options=options), rows)

    assert steps(1600) == 20 and steps(64) == 8 and steps(100_000) == 32
    assert steps(1600, max_steps=3) == 3
