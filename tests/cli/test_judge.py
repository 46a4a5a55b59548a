"""``nomoat judge`` from the command line, on a tiny real base."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import torch

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from tiny import tiny_base


@pytest.fixture
def env(own_home: Path) -> Environment:
    """A home with a tiny base, a data set and an adapter that changes answers at random."""
    torch.set_num_threads(1)
    store = Store(own_home)
    base = tiny_base(own_home / "bases" / "tiny", max_position_embeddings=192)
    adapter = base.new_adapter(AdapterConfig(rank=4), seed=0, name="scribe")
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    with store.writing("adapters", "scribe") as folder:
        save_adapter(adapter, folder)
        parents = (Parent("base", "tiny", ""), Parent("data", "words", ""))
        write_lineage(folder, Lineage(kind="adapter", name="scribe", parents=parents))
    rows = [{"prompt": f"say {n}", "completion": f"word {n}"} for n in range(8)]
    with store.writing("data", "words") as folder:
        for split in ("train", "valid", "test"):
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Environment(store=store, stdout=io.StringIO(), stderr=io.StringIO())


def out(env: Environment) -> str:
    assert isinstance(env.stdout, io.StringIO)
    return env.stdout.getvalue().replace("\u202f", " ").replace("\u00a0", " ")


def err(env: Environment) -> str:
    assert isinstance(env.stderr, io.StringIO)
    return env.stderr.getvalue()


def test_the_table_the_verdict_and_the_failures_are_printed(env: Environment) -> None:
    assert main(["judge", "tiny+scribe", "--data", "words", "--max-tokens", "4", "--failures", "2"], env) == 0
    text = out(env)
    for words in (
        "measure",
        "right answers",
        "held-out loss",
        "perplexity of general text",
        "general questions answered right",
        "cannot tell: 0 of 8 held-out answers are right (0 %); before it was 0 (0 %).",
        "wrong after: 8 of 8 rows; 2 of them",
        "expected",
        "word 0",
        "every row: ",
    ):
        assert words in text, words
    assert "word 2" not in text
    assert "check normalised, because" in err(env)


def test_an_adapter_alone_is_judged_on_what_it_was_trained_on(env: Environment) -> None:
    assert (
        main(["judge", "scribe", "--no-forgetting", "--check", "loss", "--max-tokens", "4", "--failures", "0"], env)
        == 0
    )
    assert "held-out loss" in out(env)
    assert "general" not in out(env)
    assert "row 1" not in out(env)


def test_rows_that_became_less_likely_are_the_failures_of_a_loss(env: Environment) -> None:
    assert main(["judge", "scribe", "--no-forgetting", "--check", "loss", "--max-tokens", "4"], env) == 0
    text = out(env)
    if "less likely than before" in text:
        assert "before," in text
    else:
        assert "row " not in text.split("nats per token")[-1]


def test_json_lines_end_with_the_whole_result(env: Environment) -> None:
    assert main(["judge", "scribe", "--no-forgetting", "--limit", "3", "--max-tokens", "2", "--json"], env) == 0
    records = [json.loads(line) for line in out(env).splitlines()]
    assert {record["record"] for record in records} >= {"note", "progress", "sample", "saved", "done"}
    done = records[-1]
    assert done["what"] == "judge"
    assert len(done["result"]["outcomes"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody", "--data", "words"], 3, "nobody"),
        (["scribe", "--data", "nothing"], 3, "nothing"),
        (["tiny", "--data", "words"], 2, "wears no adapter"),
        (["scribe", "--check", "bleu"], 2, "no check 'bleu'"),
        (["scribe", "--check", "regex"], 2, "needs a pattern"),
        (["scribe", "--limit", "-1"], 2, "--limit cannot be -1"),
    ],
)
def test_errors_name_what_is_wrong_and_return_their_code(
    env: Environment, arguments: list[str], code: int, words: str
) -> None:
    assert main(["judge", *arguments], env) == code
    assert words in err(env)
    assert "hint:" in err(env)


def test_tasks_without_the_harness_name_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    env = Environment(stdout=io.StringIO(), stderr=io.StringIO())
    assert main(["judge", "x", "--tasks", "arc_easy", "--data-dir", str(tmp_path)], env) == 2
    assert isinstance(env.stderr, io.StringIO)
    assert "lm_eval, which is not installed" in env.stderr.getvalue() and "nomoat[tasks]" in env.stderr.getvalue()
