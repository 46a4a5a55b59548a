"""``nomoat move`` from the command line: table, exit code, prediction, JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune
from tiny import tiny_folder

MOVE = ["move", "old+yes", "--to", "new", "--lr", "0.01", "--epochs", "5", "--probe-seconds", "0", "--threads", "1"]


@pytest.fixture
def env(own_home: Path) -> Environment:
    """A home with an adapter that says yes to everything, and a base to move to."""
    torch.set_num_threads(1)
    store = Store(own_home)
    tiny_folder(store.path("bases", "old"), seed=1)
    tiny_folder(store.path("bases", "new"), "qwen2", seed=2, merges=[("y", "e"), ("ye", "s")])
    with store.writing("data", "agreed") as folder:
        for split, start, count in (("train", 0, 24), ("valid", 40, 3), ("test", 50, 8)):
            rows = [{"prompt": f"say it {n}", "completion": "yes"} for n in range(start, start + count)]
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = TuneOptions(
        data="agreed", base="old", name="yes", rank=4, lr=1e-2, epochs=5.0, threads=1, probe_seconds=0.0
    )
    for _ in tune(options, store):
        pass
    return Environment(store=store, stdout=io.StringIO(), stderr=io.StringIO())


def text(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_the_table_is_printed_and_the_adapter_can_be_talked_to(env: Environment) -> None:
    assert main(MOVE, env) == 0, text(env.stderr)
    out = text(env.stdout)
    assert "old stack" in out and "agreed" in out and "nomoat chat new+yes-on-new" in out
    assert main(["run", "new+yes-on-new", "say it 55"], env) == 0
    assert text(env.stdout).endswith("yes\n")


def test_a_lost_skill_has_an_exit_code_of_its_own_and_says_what_is_kept(env: Environment) -> None:
    assert main([*MOVE, "--max-steps", "1", "--lr", "1e-6", "--name", "gone"], env) == 12
    assert "agreed: less than 90% of the old gain is kept" in text(env.stderr)
    assert "gone-unproven" in text(env.stderr) and "NO" in text(env.stdout)


def test_json_ends_with_the_table_or_the_error(env: Environment) -> None:
    assert main([*MOVE, "--max-steps", "1", "--lr", "1e-6", "--json"], env) == 12
    *_, done, error = map(json.loads, text(env.stdout).splitlines())
    assert done["what"] == "move" and done["result"]["passed"] is False
    assert error["record"] == "error" and error["kind"] == "SkillLost"


def test_the_prediction_is_printed(env: Environment) -> None:
    assert main([*MOVE, "--dry-run", "--probe-seconds", "1"], env) == 0, text(env.stderr)
    assert "time " in text(env.stdout) and "judge " in text(env.stdout)
    assert env.store.names("data") == ["agreed"]


def test_what_is_missing_is_said(env: Environment) -> None:
    assert main(["move", "old+yes"], env) == 2
    assert "--to is missing" in text(env.stderr)


def test_a_skill_that_the_new_base_does_better_alone_is_left_out_not_practised(env: Environment) -> None:
    odd = ["move", "old+yes:-2", *MOVE[2:], "--check", "loss", "--keep", "0", "--epochs", "1", "--max-steps", "3"]
    assert main([*odd, "--answers", "rows", "--lr", "1", "--eval-rows", "0"], env) == 12, text(env.stderr)
    told = text(env.stderr)
    assert "new alone is better at it than old+yes:-2" in told
    assert "without the adapter that learned agreed" in told and "--epochs" not in told
