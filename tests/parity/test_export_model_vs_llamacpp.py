"""llama.cpp runs the model files that we write, and says what base and stack say: from GGUF files and from folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import strong_adapter, with_random_biases
from llama_cpp import Served, compare
from nomoat.core.errors import UsageError
from nomoat.engine.names import Worn
from nomoat.export.gguf_model import Merge, write_model
from nomoat.export.presets import PRESETS
from nomoat.formats.gguf import GgufFile
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base, load_base
from tiny import CHATML, byte_tokenizer
from tiny_families import CASES, reference, write_gguf

BOTH = AdapterConfig(rank=4, alpha=16.0, use_rslora=True, rank_pattern={"o_proj": 8})
DORA = AdapterConfig(rank=3, alpha=6.0, use_dora=True)


def family_file(family: str, folder: Path) -> Base:
    model, extra = reference(family)
    write_gguf(folder / f"{family}.gguf", family, model, extra)
    return load_base(folder / f"{family}.gguf", name=family)


def family_folder(family: str, folder: Path) -> Base:
    """The same model as transformers saves it, with a tokenizer of one merge."""
    model, _ = reference(family)
    model.save_pretrained(folder / family)
    described = json.loads(byte_tokenizer().to_str())
    described["model"]["vocab"]["ab"] = 259
    described["model"]["merges"] = [["a", "b"]]
    described["pre_tokenizer"]["use_regex"] = True
    (folder / family / "tokenizer.json").write_text(json.dumps(described))
    settings = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "chat_template": CHATML}
    (folder / family / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_base(folder / family, name=family)


def stack(base: Base) -> Worn:
    return (strong_adapter(base, BOTH), 0.8), (strong_adapter(base, DORA, seed=1), 0.5)


def check(base: Base, worn: Worn, folder: Path) -> None:
    list(write_model(folder / "out.gguf", Merge(base, worn, "F32")))
    found = compare(Served(folder / "out.gguf"), base, worn)
    assert max(found.gaps) < 2e-3 and max(found.regrets) < 2e-3
    again = load_base(folder / "out.gguf")
    assert again.tokenizer.eos_ids == base.tokenizer.eos_ids
    assert again.tokenizer.encode("ab cd<|im_end|>") == base.tokenizer.encode("ab cd<|im_end|>")


@pytest.mark.parametrize("make", [family_file, family_folder])
def test_biases_are_folded_in_where_the_base_has_them(make: Callable[[str, Path], Base], tmp_path: Path) -> None:
    base = make("qwen2", tmp_path)
    plain, dora = (adapter for adapter, _ in stack(base))
    biased = with_random_biases(plain, 1, "q_proj", "v_proj", spread=0.5)
    check(base, ((biased, 0.8), (with_random_biases(dora, 2, "k_proj", spread=0.5), 0.5)), tmp_path)
    with pytest.raises(UsageError, match="a bias, and qwen2 has none"):
        list(write_model(tmp_path / "no.gguf", Merge(base, ((with_random_biases(plain, 1), 1.0),), "F32")))


@pytest.mark.parametrize("family", CASES)
def test_a_stack_folded_into_a_file(family: str, tmp_path: Path) -> None:
    base = family_file(family, tmp_path)
    check(base, stack(base), tmp_path)


@pytest.mark.parametrize("family", CASES)
def test_a_stack_folded_into_a_folder(family: str, tmp_path: Path) -> None:
    base = family_folder(family, tmp_path)
    check(base, stack(base), tmp_path)
    assert load_base(tmp_path / "out.gguf").template.source == CHATML


@pytest.mark.parametrize("family", ["gemma3", "smollm3"])
def test_embeddings_and_head_that_were_one_part_where_the_stack_parts_them(family: str, tmp_path: Path) -> None:
    base = family_file(family, tmp_path)
    assert base.decoder.config.tied
    config = AdapterConfig(rank=3, alpha=6.0, target_modules=("embed_tokens", "lm_head", "q_proj"))
    check(base, ((strong_adapter(base, config), 1.0),), tmp_path)
    assert "output.weight" in GgufFile.open(tmp_path / "out.gguf").tensors


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads_and_stays_near(preset: str, tmp_path: Path) -> None:
    base = family_file("qwen2", tmp_path)
    worn = stack(base)
    list(write_model(tmp_path / "out.gguf", Merge(base, worn, preset)))
    bound = {"F32": 1e-3, "BF16": 0.3, "F16": 0.05, "Q8_0": 0.5}.get(preset, 6.0)
    assert max(compare(Served(tmp_path / "out.gguf"), load_base(tmp_path / "out.gguf")).gaps) < 1.0
    assert max(compare(Served(tmp_path / "out.gguf"), base, worn).gaps) < bound
