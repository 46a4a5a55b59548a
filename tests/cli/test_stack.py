"""``nomoat stack`` from the command line, on a tiny real base."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from adapters import random_adapter
from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.model.adapter_files import save_adapter
from nomoat.model.load import load_base
from tiny import tiny_base


@pytest.fixture
def env(own_home: Path) -> Environment:
    """A home with a tiny base and two adapters."""
    store = Store(own_home)
    base = tiny_base(own_home / "bases" / "tiny")
    for name, seed in (("scribe", 1), ("sql", 2)):
        with store.writing("adapters", name) as folder:
            save_adapter(random_adapter(base, name, seed, rank=2 + seed), folder)
            parents = (Parent("base", "tiny", ""),)
            write_lineage(folder, Lineage(kind="adapters", name=name, licence="mit", parents=parents))
    return Environment(store=store, stdout=io.StringIO(), stderr=io.StringIO())


def out(env: Environment) -> str:
    assert isinstance(env.stdout, io.StringIO)
    return env.stdout.getvalue()


def err(env: Environment) -> str:
    assert isinstance(env.stderr, io.StringIO)
    return env.stderr.getvalue()


def test_two_adapters_become_one_and_the_cost_is_printed(env: Environment) -> None:
    assert main(["stack", "scribe", "sql:0.5", "--method", "ties", "--rank", "4", "--name", "both"], env) == 0, err(env)
    assert "rank     7 -> 4 at most, 14 modules" in out(env)
    assert "kept " in out(env) and "licence  mit" in out(env)
    base = load_base(env.store.find("bases", "tiny"), name="tiny")
    assert base.load_adapter(env.store.find("adapters", "both")).config.rank == 4


def test_a_base_may_stand_in_front_and_the_result_is_worn_like_any_adapter(env: Environment) -> None:
    assert main(["stack", "tiny+scribe+sql", "--name", "both"], env) == 0, err(env)
    assert main(["run", "tiny+both:0.5", "hello", "--max-tokens", "2", "--temperature", "0"], env) == 0, err(env)


def test_a_recipe_gives_adapters_and_options_and_flags_overrule_it(env: Environment, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "merge_method: ties\nbase_model: tiny\nparameters: {density: 0.4}\n"
        "models:\n  - {model: scribe}\n  - {model: sql, parameters: {weight: 0.5, density: 0.2}}\n"
    )
    assert main(["stack", "--config", str(recipe), "--rank", "3", "--density", "0.9", "--name", "both"], env) == 0
    lineage = json.loads((env.store.find("adapters", "both") / "nomoat.json").read_text())
    assert lineage["options"]["method"] == "ties" and lineage["options"]["density"] == 0.9
    assert lineage["options"]["weights"] == {"scribe": 1.0, "sql": 0.5}
    assert main(["stack", "scribe", "--config", str(recipe), "--name", "x"], env) == 2


def test_json_ends_with_every_module_and_its_ranks(env: Environment) -> None:
    assert main(["stack", "scribe", "sql", "--name", "both", "--json"], env) == 0
    last = json.loads(out(env).splitlines()[-1])
    assert last["record"] == "done" and {module["rank"] for module in last["result"]["modules"]} == {7}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scribe", "sql"], 2, "--name is missing"),
        (["--name", "both"], 2, "no adapter"),
        (["tiny", "--name", "both"], 2, "without an adapter"),
        (["scribe", "absent", "--name", "both"], 3, "no adapter named 'absent'"),
        (["scribe", "sql", "--method", "ties", "--name", "both"], 2, "full rank"),
        (["scribe", "sql", "--method", "sum", "--name", "both"], 2, "one of: concat"),
        (["scribe", "sql", "--config", "absent.yaml", "--name", "both"], 2, "--config names the adapters"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], code: int, said: str, env: Environment) -> None:
    assert main(["stack", *words], env) == code
    assert said in err(env)


def test_a_report_prints_pairs_ranks_and_where_the_picture_is(env: Environment) -> None:
    assert main(["stack", "scribe", "sql", "--report", "--no-scores"], env) == 0, err(env)
    assert "scribe, sql" in out(env) and "rank of the sum 7" in out(env) and "100.0%" in out(env)
    assert (env.store.find("runs", "stack-scribe-sql") / "interference.png").is_file()
    assert main(["stack", "scribe", "sql", "--report", "--name", "x"], env) == 2


def test_a_search_finds_weights_and_the_new_adapter_has_them(env: Environment) -> None:
    rows = [{"prompt": f"say {n}", "completion": f"word {n}"} for n in range(4)]
    with env.store.writing("data", "words") as folder:
        for split in ("train", "valid", "test"):
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["stack", "scribe", "sql", "--search", "--data", "words,words", "--budget", "3", "--gradient-steps", "1"]
    words = [*words, "--minutes", "1"]
    assert main([*words, "--name", "both"], env) == 0, err(env)
    assert "kept (test)" in out(env) and "stack  scribe:" in out(env) and "will take about" in err(env)
    assert "no gain to keep" in out(env)  # scribe is random
    lineage = json.loads((env.store.find("adapters", "both") / "nomoat.json").read_text())
    assert set(lineage["options"]["weights"]) == {"scribe", "sql"}
    assert main([*words, "--grain", "adapter"], env) == 0, err(env)
    assert main(words, env) == 2 and "kept in a new adapter alone" in err(env)
    assert main(["stack", "scribe", "sql", "--report", "--data", "words,words", "--limit", "2"], env) == 0, err(env)
    assert "scribe+sql" in out(env) and "scribe alone gains nothing on words" in out(env)


def test_without_data_a_search_says_what_is_missing(env: Environment) -> None:
    assert main(["stack", "scribe", "sql", "--search", "--name", "both"], env) == 2
    assert "no skill of the stack can be measured" in err(env)
