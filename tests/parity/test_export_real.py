"""A real model with an adapter that matters, to llama.cpp and Ollama: as a LoRA over its own blocks, and folded in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import models
from adapters import strong_adapter
from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import load_base

pytestmark = pytest.mark.real


def export(home: Path, *words: str) -> dict[str, Any]:
    out = io.StringIO()
    code = main(
        ["export", *words, "--conversations", "3", "--json"],
        Environment(store=Store(home), stdout=out, stderr=io.StringIO()),
    )
    last: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    assert code == 0, last
    result: dict[str, Any] = last["result"]
    return result


def test_an_rslora_over_smollm2_goes_to_ollama_and_into_eight_bits(tmp_path: Path) -> None:
    path = models.path("smollm2")
    base = load_base(path)
    config = AdapterConfig(rank=8, alpha=16.0, use_rslora=True, target_modules=("q_proj", "k_proj", "down_proj"))
    (tmp_path / "rs").mkdir()
    save_adapter(strong_adapter(base, config, size=0.2), tmp_path / "rs")
    stack = f"{path}+{tmp_path / 'rs'}"

    beside = export(tmp_path, stack, "--to", "ollama", "--out", str(tmp_path / "beside"))
    assert beside["tokens"]["ways"] == ["training", "file", "ollama"]
    assert beside["damage"]["kl"] < 1e-5
    assert beside["llama_cpp"] is None or beside["llama_cpp"]["kl"] < 0.03
    text = (tmp_path / "beside/Modelfile").read_text()
    assert 'PARAMETER stop "<|im_end|>"' in text and 'SYSTEM """You are a helpful AI assistant' in text

    folded = export(tmp_path, stack, "--to", "gguf", "--type", "Q8_0", "--no-llama-cpp", "--out", str(tmp_path / "8"))
    assert 0 < folded["damage"]["kl"] < 0.01
