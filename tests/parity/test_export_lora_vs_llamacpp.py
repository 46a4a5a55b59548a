"""llama.cpp wears the LoRA files that we write, and says what our stack says: every family, every kind of scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import strong_adapter
from llama_cpp import Served, compare
from nomoat.engine.names import Worn
from nomoat.export.gguf_lora import write_lora
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base, load_base
from tiny_families import CASES, reference, write_gguf

PLAIN = AdapterConfig(rank=4, alpha=8.0)
MIXED = AdapterConfig(
    rank=4,
    alpha=16.0,
    use_rslora=True,
    rank_pattern={"o_proj": 8, "layers.1.mlp.down_proj": 2},
    alpha_pattern={"o_proj": 5.0},
)


def family_base(family: str, folder: Path) -> Base:
    model, extra = reference(family)
    write_gguf(folder / f"{family}.gguf", family, model, extra)
    return load_base(folder / f"{family}.gguf", name=family)


def check(base: Base, worn: Worn, folder: Path) -> None:
    write_lora(folder / "lora.gguf", base, worn, name="test")
    with_lora = compare(Served(base.path, folder / "lora.gguf"), base, worn)
    assert max(with_lora.gaps) < 2e-3 and max(with_lora.regrets) < 2e-3
    assert max(compare(Served(base.path), base, worn).gaps) > 0.1, "the adapter does nothing that this test could see"


@pytest.mark.parametrize("family", CASES)
def test_a_stack_of_plain_rslora_and_patterned_adapters_as_one_file(family: str, tmp_path: Path) -> None:
    base = family_base(family, tmp_path)
    worn = [(strong_adapter(base, PLAIN), 0.7), (strong_adapter(base, MIXED, seed=1), -0.5)]
    if family != "phi3":
        worn.append((strong_adapter(base, AdapterConfig(rank=3, alpha=1.0, target_modules=("q_proj",)), seed=2), 1.0))
    check(base, tuple(worn), tmp_path)


@pytest.mark.parametrize("config", [PLAIN, MIXED], ids=["plain", "rslora with patterns"])
def test_one_adapter_alone(config: AdapterConfig, tmp_path: Path) -> None:
    base = family_base("llama", tmp_path)
    check(base, ((strong_adapter(base, config), 1.0),), tmp_path)


def test_embeddings_and_a_head_of_their_own(tmp_path: Path) -> None:
    base = family_base("llama", tmp_path)
    assert not base.decoder.config.tied
    config = AdapterConfig(rank=4, alpha=8.0, target_modules=("embed_tokens", "lm_head", "v_proj"))
    check(base, ((strong_adapter(base, config), 1.0),), tmp_path)
