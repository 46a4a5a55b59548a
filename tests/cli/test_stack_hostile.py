"""Hostile and damaged adapters are refused by every verb that reads them, with our errors, and leave nothing behind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters import random_adapter, saved
from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from nomoat.formats.weights import Floats
from tiny import tiny_base

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def env(own_home: Path) -> Environment:
    base = tiny_base(own_home / "bases" / "tiny")
    for name, seed in (("good", 1), ("bad", 2)):
        saved(random_adapter(base, name, seed, rank=2), own_home / "adapters" / name)
    return Environment(store=Store(own_home), stdout=io.StringIO(), stderr=io.StringIO())


def said(env: Environment) -> str:
    assert isinstance(env.stderr, io.StringIO)
    return env.stderr.getvalue()


def in_weights(change: Callable[[dict[str, Floats]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, str(folder / WEIGHTS))

    return damage


def in_config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**config, **changes}))

    return damage


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")


def cut_short(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def huge_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + b"{}")


# what is done to it, the exit code, words of the message
DAMAGES: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "not a number": (in_weights(lambda t: t[f"{Q}.lora_A.weight"].__setitem__((0, 0), np.nan)), 5, "not finite"),
    "infinite": (in_weights(lambda t: t[f"{Q}.lora_B.weight"].__setitem__((0, 0), np.inf)), 5, "not finite"),
    "a factor of another base": (
        in_weights(lambda t: t.update({f"{Q}.lora_A.weight": np.ones((2, 48), np.float32)})), 6, "q_proj is",
    ),
    "factors that do not fit": (
        in_weights(lambda t: t.update({f"{Q}.lora_B.weight": np.ones((32, 3), np.float32)})), 5, "(rank, in)",
    ),
    "a rank that the configuration does not say": (in_config(r=7, lora_alpha=7), 5, "configuration says 7"),
    "a giant rank": (in_config(r=10**9), 5, "not a whole number from 1"),
    "a giant alpha": (in_config(lora_alpha=1e300), 5, "lora_alpha"),
    "a scale that overflows": (
        lambda folder: (in_config(lora_alpha=1e9)(folder),
                        in_weights(lambda t: t[f"{Q}.lora_B.weight"].fill(1e35))(folder))[0], 10, "overflows",
    ),
    "a module out of the house": (
        in_weights(lambda t: t.update({"base_model.model.../../x.lora_A.weight": np.ones((2, 2), np.float32)})),
        5, "not part of a LoRA",
    ),
    "a module that is not there": (
        in_weights(lambda t: t.update({
            "base_model.model.model.layers.99.mlp.up_proj.lora_A.weight": np.ones((2, 32), np.float32),
            "base_model.model.model.layers.99.mlp.up_proj.lora_B.weight": np.ones((64, 2), np.float32),
        })), 6, "no module",
    ),
    "bias": (in_config(bias="some"), 5, "bias"),
    "a bias of nothing": (
        lambda folder: (in_config(bias="all")(folder),
                        in_weights(lambda t: t.update({f"{Q}.bias": np.ones(7, np.float32)}))(folder))[0],
        6, "no bias",
    ),
    "saved modules": (in_config(modules_to_save=["lm_head"]), 5, "modules_to_save"),
    "pickled": (pickled, 5, "can run code"),
    "cut short": (cut_short, 5, "does not fit a file"),
    "a header of four exabytes": (huge_header, 5, "claims a header"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), 3, "no such file"),
    "no configuration": (lambda folder: (folder / CONFIG).write_text("{"), 5, CONFIG),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_adapter_is_refused_and_nothing_is_written(case: str, env: Environment) -> None:
    damage, code, words = DAMAGES[case]
    damage(env.store.path("adapters", "bad"))
    assert main(["stack", "--base", "tiny", "good", "bad", "--rank", "2", "--name", "both"], env) == code, said(env)
    assert words in said(env)
    assert env.store.names("adapters") == ["bad", "good"]


@pytest.mark.parametrize("case", ["not a number", "a factor of another base", "pickled", "cut short"])
def test_nor_is_it_merged(case: str, env: Environment) -> None:
    damage, code, words = DAMAGES[case]
    damage(env.store.path("adapters", "bad"))
    assert main(["merge", "tiny+good+bad", "--name", "folded"], env) == code
    assert words in said(env) and env.store.names("models") == []


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", ".hidden", "", "x" * 200, "a\0b"])
def test_a_name_cannot_lead_out_of_the_store(name: str, env: Environment, own_home: Path) -> None:
    before = sorted(path.name for path in own_home.parent.iterdir())
    assert main(["stack", "--base", "tiny", "good", "bad", "--name", name], env) == 2
    assert main(["merge", "tiny+good", "--name", name], env) == 2
    assert sorted(path.name for path in own_home.parent.iterdir()) == before


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "1e400", "heavy"])
def test_a_weight_is_a_number(weight: str, env: Environment) -> None:
    assert main(["stack", "--base", "tiny", "good", f"bad:{weight}", "--name", "both"], env) == 2
    assert "weight" in said(env)
