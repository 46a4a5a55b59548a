"""``nomoat merge`` and ``nomoat extract`` from the command line, on a tiny real base."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from adapters import random_adapter
from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.model.adapter_files import save_adapter
from tiny import tiny_base


@pytest.fixture
def env(own_home: Path) -> Environment:
    store = Store(own_home)
    base = tiny_base(own_home / "bases" / "tiny")
    with store.writing("adapters", "scribe") as folder:
        save_adapter(random_adapter(base, "scribe", 1, rank=3), folder)
        write_lineage(folder, Lineage(kind="adapters", name="scribe", parents=(Parent("base", "tiny", ""),)))
    return Environment(store=store, stdout=io.StringIO(), stderr=io.StringIO())


def said(env: Environment) -> str:
    assert isinstance(env.stdout, io.StringIO) and isinstance(env.stderr, io.StringIO)
    return env.stdout.getvalue() + env.stderr.getvalue()


def test_merged_used_extracted_and_taken_apart(env: Environment) -> None:
    assert main(["merge", "tiny+scribe", "--name", "folded"], env) == 0, said(env)
    assert "merged    14 matrices" in said(env)
    assert main(["run", "folded", "hello", "--max-tokens", "2"], env) == 0, said(env)
    assert main(["extract", "folded", "--base", "tiny", "--rank", "3", "--name", "found"], env) == 0, said(env)
    assert "kept     100.0000%" in said(env)
    assert main(["merge", "--undo", "folded", "--name", "restored"], env) == 0, said(env)
    assert "restored  14 of 14 tensors to the bit\nrounding  0.00e+00" in said(env)
    folders = [env.store.find("bases", "tiny"), env.store.find("models", "restored")]
    assert (folders[0] / "config.json").is_file() and (folders[1] / "model.safetensors").is_file()


def test_what_cannot_be_is_said(env: Environment) -> None:
    assert main(["merge", "tiny+scribe", "--name", "folded", "--dtype", "int8"], env) == 2
    assert "--dtype cannot be 'int8'" in said(env)
