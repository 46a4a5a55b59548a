"""What a LoRA file holds, and which stacks it cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import strong_adapter, with_random_biases
from nomoat.core.errors import UsageError
from nomoat.export.gguf_lora import write_lora
from nomoat.export.layout import architecture
from nomoat.formats.blocks import dequantize
from nomoat.formats.gguf import GgufFile
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "qwen2")


def matrix(file: GgufFile, name: str) -> torch.Tensor:
    return torch.from_numpy(dequantize(file.data(name), file.type(name)).reshape(file.shape(name)))


def test_alpha_over_the_rank_of_each_matrix_gives_the_update(base: Base, tmp_path: Path) -> None:
    config = AdapterConfig(rank=4, alpha=3.0, use_rslora=True, rank_pattern={"down_proj": 6})
    adapter = strong_adapter(base, config)
    write_lora(tmp_path / "a.gguf", base, ((adapter, 0.25),), name="scribe")
    file = GgufFile.open(tmp_path / "a.gguf")
    assert file.metadata["general.type"] == "adapter" and file.metadata["general.architecture"] == "qwen2"
    for module, stored in (("self_attn.v_proj", "attn_v"), ("mlp.down_proj", "ffn_down")):
        delta = adapter.deltas[f"model.layers.1.{module}"]
        a = matrix(file, f"blk.1.{stored}.weight.lora_a")
        b = matrix(file, f"blk.1.{stored}.weight.lora_b")
        update = file.metadata["adapter.lora.alpha"] / len(a) * (b @ a)
        torch.testing.assert_close(update, 0.25 * delta.scaling * (delta.lora_B @ delta.lora_A).detach())


def test_factors_in_half_precision_are_near(base: Base, tmp_path: Path) -> None:
    worn = ((strong_adapter(base, AdapterConfig(rank=4, alpha=8.0)), 1.0),)
    for type in ("F32", "F16", "Q8_0"):
        write_lora(tmp_path / f"{type}.gguf", base, worn, name="x", type=type)
    files = [GgufFile.open(tmp_path / f"{type}.gguf") for type in ("F32", "F16", "Q8_0")]
    exact, half, eight = (matrix(file, "blk.0.attn_q.weight.lora_a") for file in files)
    assert files[2].type("blk.0.attn_q.weight.lora_a") == "Q8_0"
    assert files[2].type("blk.0.attn_q.weight.lora_b") == "F16"  # rows of 4 are no whole blocks
    assert 0 < np.abs(half - exact).max() < np.abs(eight - exact).max() < 0.02


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (AdapterConfig(rank=2, use_dora=True), "DoRA"),
        (AdapterConfig(rank=2, target_modules=("embed_tokens",)), "embed_tokens"),
        (AdapterConfig(rank=2, target_modules=("lm_head",)), "lm_head"),
    ],
)
def test_what_a_lora_file_cannot_say_is_refused_with_what_can(
    base: Base, config: AdapterConfig, word: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=word) as refused:
        write_lora(tmp_path / "a.gguf", base, ((strong_adapter(base, config), 1.0),), name="x")
    assert "--to gguf" in refused.value.hint
    assert not (tmp_path / "a.gguf").exists()


def test_biases_are_refused_with_what_holds_them(base: Base, tmp_path: Path) -> None:
    worn = ((with_random_biases(strong_adapter(base, AdapterConfig(rank=2)), 1, "q_proj"), 0.5),)
    with pytest.raises(UsageError, match="biases, which no LoRA") as refused:
        write_lora(tmp_path / "a.gguf", base, worn, name="x")
    assert "--to gguf" in refused.value.hint


def test_a_stack_of_nothing_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every weight is 0"):
        write_lora(tmp_path / "a.gguf", base, ((strong_adapter(base, AdapterConfig(rank=2)), 0.0),), name="x")


def test_mistral_goes_by_the_name_of_llama(base: Base) -> None:
    import dataclasses

    config = base.decoder.config
    assert architecture(config) == "qwen2"
    assert architecture(dataclasses.replace(config, family="mistral")) == "llama"
