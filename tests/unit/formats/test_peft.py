from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nomoat.core.errors import (
    BadHeader,
    FormatError,
    NotFound,
    ShapeMismatch,
    StorageError,
    UnsupportedType,
)
from nomoat.formats.peft import read_adapter, write_adapter
from nomoat.formats.peft_config import MAX_RANK
from nomoat.formats.weights import Floats

Q = "base_model.model.model.layers.0.self_attn.q_proj"
EMBED = "base_model.model.model.embed_tokens"


def config(**changes: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "some/base",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": False,
        "use_rslora": False,
        "bias": "none",
        "init_lora_weights": True,
        **changes,
    }


def factors() -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    return {
        f"{Q}.lora_A.weight": rng.normal(size=(2, 8)).astype(np.float32),
        f"{Q}.lora_B.weight": rng.normal(size=(6, 2)).astype(np.float32),
        f"{Q}.lora_magnitude_vector": rng.normal(size=6).astype(np.float32),
        f"{EMBED}.lora_embedding_A": rng.normal(size=(2, 20)).astype(np.float32),
        f"{EMBED}.lora_embedding_B": rng.normal(size=(8, 2)).astype(np.float32),
    }


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_adapter(tmp_path, config(), factors())
    return tmp_path


def test_what_is_written_is_read_back_with_unknown_keys_kept(tmp_path: Path) -> None:
    written = config(rank_pattern={"q_proj": 2}, alpha_pattern={r"layers\.0\..*": 8.5}, peft_version="0.21.2")
    write_adapter(tmp_path, written, factors(), metadata={"made by": "a test"})
    files = read_adapter(tmp_path)
    assert files.config == written
    assert files.metadata == {"format": "pt", "made by": "a test"}
    assert files.base_copies == {}
    assert sorted(files.tensors) == sorted(factors())
    assert all(np.array_equal(files.tensors[name], value) for name, value in factors().items())


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", config(), factors())
    write_adapter(tmp_path / "b", config(), dict(reversed(factors().items())))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_safetensors_library_reads_what_is_written(adapter: Path) -> None:
    theirs = load_file(adapter / "adapter_model.safetensors")
    assert {name: value.numpy().tolist() for name, value in theirs.items()} == {
        name: value.tolist() for name, value in factors().items()
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_becomes_float32_exactly(dtype: torch.dtype, adapter: Path) -> None:
    stored = {name: torch.from_numpy(value).to(dtype) for name, value in factors().items()}
    save_file(stored, adapter / "adapter_model.safetensors")
    files = read_adapter(adapter)
    for name, value in stored.items():
        assert files.tensors[name].dtype == np.float32
        assert np.array_equal(files.tensors[name], value.float().numpy())


def test_an_adapter_saved_by_peft_is_read_with_its_copy_of_the_embedding_set_aside(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=20,
    )
    targets = ["q_proj", "down_proj", "embed_tokens"]
    model = get_peft_model(LlamaForCausalLM(tiny), LoraConfig(r=2, target_modules=targets, use_dora=True))
    model.save_pretrained(tmp_path)
    files = read_adapter(tmp_path)
    assert files.config["use_dora"] is True
    assert set(files.config["target_modules"]) == set(targets)
    assert files.base_copies == {"model.embed_tokens": (20, 16)}
    assert {name: value.shape for name, value in files.tensors.items()} == {
        f"{EMBED}.lora_embedding_A": (2, 20),
        f"{EMBED}.lora_embedding_B": (16, 2),
        f"{EMBED}.lora_magnitude_vector": (16,),
        f"{Q}.lora_A.weight": (2, 16),
        f"{Q}.lora_B.weight": (16, 2),
        f"{Q}.lora_magnitude_vector": (16,),
        "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight": (2, 32),
        "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight": (16, 2),
        "base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector": (16,),
    }


def test_missing_files_are_named(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"adapter_config\.json"):
        read_adapter(tmp_path / "absent")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFound, match=r"adapter_model\.safetensors"):
        read_adapter(adapter)


def test_pickled_weights_are_refused_and_not_opened(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(UnsupportedType, match="can run code") as caught:
        read_adapter(adapter)
    assert "safetensors" in caught.value.hint


UNSUPPORTED: list[dict[str, Any]] = [
    {"peft_type": "IA3"},
    {"peft_type": None},
    {"fan_in_fan_out": True},
    {"modules_to_save": ["lm_head"], "use_dora": True},
    {"target_parameters": ["experts"]},
    {"trainable_token_indices": [1]},
    {"layer_replication": [[0, 2]]},
    {"alora_invocation_tokens": [5]},
    {"init_lora_weights": "pissa"},
    {"init_lora_weights": {"kind": "loftq"}},
    {"rank_pattern": {"(a+)+$": 2}},
    {"rank_pattern": {"(a|a)*b": 2}},
    {"rank_pattern": {"a?" * 20 + "a" * 20: 2}},
    {"rank_pattern": {"(a|a)" * 20 + "b": 2}},
    {"alpha_pattern": {".*.*.*.*x": 2}},
    {"alpha_pattern": {"x" * 600: 2}},
]  # fmt: skip
IMPOSSIBLE: list[dict[str, Any]] = [
    {"modules_to_save": "lm_head"},
    {"modules_to_save": ["(a+)+"]},
    {"modules_to_save": [1]},
    {"modules_to_save": ["lm_head"] * 65},
    {"r": 0},
    {"r": -1},
    {"r": True},
    {"r": 8.0},
    {"r": "8"},
    {"r": None},
    {"r": MAX_RANK + 1},
    {"r": 10**400},
    {"lora_alpha": "16"},
    {"lora_alpha": True},
    {"lora_alpha": None},
    {"lora_alpha": 10**400},
    {"use_dora": "yes"},
    {"use_rslora": 3},
    {"target_modules": None},
    {"target_modules": 3},
    {"target_modules": ["q_proj", 3]},
    {"target_modules": {"q_proj": 1}},
    {"target_modules": "q" * 10_000},
    {"rank_pattern": ["q_proj"]},
    {"rank_pattern": {"q_proj": 0}},
    {"rank_pattern": {"q_proj": 1e9}},
    {"rank_pattern": {"(": 4}},
    {"alpha_pattern": {"q_proj": "4"}},
    {"alpha_pattern": "q_proj"},
    {"base_model_name_or_path": 7},
    {"base_model_name_or_path": "x" * 5000},
    {"revision": ["main"]},
]  # fmt: skip


def named(change: dict[str, Any]) -> str:
    return repr(change)[:40]


@pytest.mark.parametrize("change", UNSUPPORTED, ids=named)
def test_kinds_of_adapter_that_do_not_run_are_refused(change: dict[str, Any], adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps(config(**change)))
    with pytest.raises(UnsupportedType, match=r"adapter_config\.json"):
        read_adapter(adapter)


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=named)
def test_configurations_that_cannot_be_are_refused_on_reading_and_on_writing(
    change: dict[str, Any], adapter: Path
) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps(config(**change)))
    with pytest.raises(BadHeader, match=next(iter(change))):
        read_adapter(adapter)
    with pytest.raises(BadHeader):
        write_adapter(adapter / "other", config(**change), factors())
    assert not (adapter / "other").exists()


def test_numbers_that_json_should_not_have_are_refused(adapter: Path) -> None:
    for value in ("NaN", "Infinity", "-Infinity"):
        text = json.dumps(config()).replace('"lora_alpha": 4', f'"lora_alpha": {value}')
        (adapter / "adapter_config.json").write_text(text)
        with pytest.raises(BadHeader, match="lora_alpha"):
            read_adapter(adapter)


def test_a_pattern_that_is_let_through_is_quick_on_long_names(adapter: Path) -> None:
    import re

    started = time.process_time()
    for pattern in (r".*a.*a.*ab", r"[a-z]*a*a*b", r"a{1,}a*a*c", "(a|a)(a|a)(a|a)b", r".*\.(a|a)"):
        write_adapter(adapter, config(rank_pattern={pattern: 2}), factors())
        re.match(rf"(.*\.)?({pattern})$", "a" * 80)
    assert time.process_time() - started < 2


WRONG_TENSORS: dict[str, tuple[Callable[[dict[str, Floats]], Any], type[FormatError], str]] = {
    "no tensors": (lambda t: t.clear(), FormatError, "holds no tensors"),
    "A without B": (lambda t: t.pop(f"{Q}.lora_B.weight"), ShapeMismatch, "not an A and its B"),
    "B without A": (lambda t: t.pop(f"{Q}.lora_A.weight"), ShapeMismatch, "not an A and its B"),
    "a magnitude alone": (
        lambda t: t.update({"base_model.model.x.lora_magnitude_vector": np.ones(3, np.float32)}),
        ShapeMismatch,
        "not an A and its B",
    ),
    "a linear A with an embedding B": (
        lambda t: t.update({f"{Q}.lora_embedding_B": t.pop(f"{Q}.lora_B.weight")}),
        ShapeMismatch,
        "not an A and its B",
    ),
    "ranks that differ": (
        lambda t: t.update({f"{Q}.lora_B.weight": np.ones((6, 3), np.float32)}), ShapeMismatch, "(rank, in)",
    ),
    "a factor with three dimensions": (
        lambda t: t.update({f"{Q}.lora_B.weight": np.ones((6, 2, 1), np.float32)}), ShapeMismatch, "(rank, in)",
    ),
    "a rank of 0": (
        lambda t: t.update({f"{Q}.lora_A.weight": np.ones((0, 8), np.float32),
                            f"{Q}.lora_B.weight": np.ones((6, 0), np.float32)}),
        ShapeMismatch, "(rank, in)",
    ),
    "a rank beyond the limit": (
        lambda t: t.update({f"{Q}.lora_A.weight": np.ones((MAX_RANK + 1, 1), np.float32),
                            f"{Q}.lora_B.weight": np.ones((1, MAX_RANK + 1), np.float32)}),
        ShapeMismatch, f"more than {MAX_RANK}",
    ),
    "a magnitude of another size": (
        lambda t: t.update({f"{Q}.lora_magnitude_vector": np.ones(5, np.float32)}), ShapeMismatch, "magnitude",
    ),
    "full weights": (
        lambda t: t.update({f"{EMBED}.weight": np.ones((2, 2), np.float32)}), UnsupportedType, "not part of a LoRA",
    ),
    "a name with a path in it": (
        lambda t: t.update({"base_model.model.../../x.lora_A.weight": np.ones((2, 2), np.float32)}),
        UnsupportedType, "not part of a LoRA",
    ),
    "not a number": (
        lambda t: t.update({f"{Q}.lora_A.weight": np.full((2, 8), np.nan, np.float32)}), FormatError, "not finite",
    ),
    "infinity": (
        lambda t: t.update({f"{Q}.lora_A.weight": np.full((2, 8), -np.inf, np.float32)}), FormatError, "not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_tensors_that_are_not_an_adapter_are_refused_on_reading_and_on_writing(case: str, adapter: Path) -> None:
    change, kind, message = WRONG_TENSORS[case]
    tensors = factors()
    change(tensors)
    with pytest.raises(kind) as on_writing:
        write_adapter(adapter / "other", config(), tensors)
    save_file({k: torch.from_numpy(v) for k, v in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(kind) as on_reading:
        read_adapter(adapter)
    for caught in (on_writing, on_reading):
        assert message in str(caught.value)
        assert "adapter_model.safetensors" in str(caught.value)


def test_a_full_disk_leaves_no_half_written_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        write_adapter(tmp_path / "a", config(), factors())
    assert list((tmp_path / "a").iterdir()) == []
