"""Adapters with biases travel both ways, in each of peft's forms, and add up exactly here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters import random_adapter, saved, with_random_biases
from nomoat.core.errors import AdapterMismatch, BadHeader, ShapeMismatch, UsageError
from nomoat.formats.peft import read_adapter, write_adapter
from nomoat.model.adapter_files import save_adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import AnyStack, MixedStack
from nomoat.model.load import Base
from nomoat.stack.algebra import as_adapter, weighted_sum
from nomoat.stack.update import updates_of
from tiny import tiny_base

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(3, 259, (30,), generator=torch.Generator().manual_seed(3))
SOME = ["q_proj", "down_proj"]  # k_proj and v_proj have a bias of the base, and no factors
FORMS: dict[str, dict[str, Any]] = {
    "all": {"target_modules": SOME, "bias": "all"},
    "lora_only": {"target_modules": SOME, "bias": "lora_only", "use_rslora": True},
    "beside DoRA": {"target_modules": SOME, "bias": "all", "use_dora": True},
    "beside embeddings": {"target_modules": ["q_proj", "embed_tokens"], "bias": "all"},
    "of every B": {"target_modules": SOME, "lora_bias": True, "use_rslora": True},
}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny_base(tmp_path / "base", "qwen2", tie_word_embeddings=False)


def ours(base: Base, stack: AnyStack) -> torch.Tensor:
    with torch.no_grad():
        return base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), stack), stack)


def theirs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS[None]).logits[0]


def reference(base: Base) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()


def by_peft(base: Base, form: str, folder: Path) -> Any:
    """A model of peft whose factors and biases are moved at random, saved in ``folder``."""
    model = peft.get_peft_model(
        reference(base), peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **FORMS[form])
    )
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("form", FORMS)
def test_what_peft_saves_with_biases_gives_the_same_logits_here_and_saved_again_there(
    form: str, base: Base, tmp_path: Path
) -> None:
    model = by_peft(base, form, tmp_path / "adapter")
    loaded = base.load_adapter(tmp_path / "adapter")
    assert any(delta.bias is not None for delta in loaded.deltas.values())
    torch.testing.assert_close(ours(base, ((loaded, 1.0),)), theirs(model), atol=2e-5, rtol=1e-5)
    (tmp_path / "again").mkdir()
    save_adapter(loaded, tmp_path / "again", base.decoder)
    again = peft.PeftModel.from_pretrained(reference(base), tmp_path / "again").eval()
    torch.testing.assert_close(theirs(again), theirs(model), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(
        ours(base, ((base.load_adapter(tmp_path / "again"), 1.0),)), theirs(model), atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize("other", ["plain", "embeddings"])
def test_a_sum_of_adapters_with_and_without_biases_is_the_stack_here_and_in_peft(
    other: str, base: Base, tmp_path: Path
) -> None:
    by_peft(base, "all", tmp_path / "adapter")
    biased = base.load_adapter(tmp_path / "adapter", name="biased")
    targets = ("v_proj", "up_proj") if other == "plain" else ("v_proj", "embed_tokens")
    second = random_adapter(base, "second", 2, rank=2, target_modules=targets)
    stack = ((biased, 0.5), (second, -1.5))
    total = weighted_sum([(updates_of(adapter), weight) for adapter, weight in stack])
    both = as_adapter(total, name="both", base_name=base.name, fingerprint=base.fingerprint)
    torch.testing.assert_close(ours(base, ((both, 1.0),)), ours(base, stack), atol=2e-5, rtol=1e-5)
    (tmp_path / "both").mkdir()
    save_adapter(both, tmp_path / "both", base.decoder)
    model = peft.PeftModel.from_pretrained(reference(base), tmp_path / "both").eval()
    torch.testing.assert_close(theirs(model), ours(base, stack), atol=2e-5, rtol=1e-5)


def test_rows_of_a_mixed_batch_get_their_own_biases(base: Base, tmp_path: Path) -> None:
    by_peft(base, "all", tmp_path / "adapter")
    biased = base.load_adapter(tmp_path / "adapter", name="biased")
    mixed = MixedStack([((biased, 0.5),), (), ((biased, 1.0),)], [30, 30, 30])
    tokens = torch.cat([TOKENS] * 3)
    with torch.no_grad():
        together = base.decoder.logits(base.decoder(tokens, Layout([30] * 3), mixed), mixed)
    alone = torch.cat([ours(base, ((biased, 0.5),)), ours(base, ()), ours(base, ((biased, 1.0),))])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-5)


def test_a_bias_that_the_base_lacks_is_kept_by_every_b_or_refused_beside_embeddings(base: Base, tmp_path: Path) -> None:
    own = with_random_biases(random_adapter(base, "own", 1, rank=2, target_modules=("up_proj", "q_proj")), 1)
    model = peft.PeftModel.from_pretrained(reference(base), saved(own, tmp_path / "own")).eval()
    torch.testing.assert_close(theirs(model), ours(base, ((own, 1.0),)), atol=2e-5, rtol=1e-5)
    words = random_adapter(base, "words", 1, rank=2, target_modules=("up_proj", "embed_tokens"))
    (tmp_path / "words").mkdir()
    with pytest.raises(UsageError, match="peft keeps no other"):
        save_adapter(with_random_biases(words, 1), tmp_path / "words", base.decoder)


def test_an_adapter_for_all_biases_of_a_base_without_any_is_a_plain_one(tmp_path: Path) -> None:
    bare = tiny_base(tmp_path / "bare", "llama")
    model = by_peft(bare, "all", tmp_path / "adapter")
    loaded = bare.load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(ours(bare, ((loaded, 1.0),)), theirs(model), atol=2e-5, rtol=1e-5)


def _change(folder: Path, **changes: Any) -> None:
    """Write the adapter anew with other configuration keys or, for names with a dot, other tensors."""
    files = read_adapter(folder)
    tensors = {key: value for key, value in changes.items() if "." in key}
    config = files.config | {key: value for key, value in changes.items() if "." not in key}
    write_adapter(folder, config, files.tensors | tensors)


def test_damaged_biases_are_refused(base: Base, tmp_path: Path) -> None:
    plain = random_adapter(base, "plain", 1, rank=2, target_modules=("q_proj",))
    prefix, vector = "base_model.model.model.layers.0.self_attn", np.ones(32, np.float32)
    with pytest.raises(BadHeader, match="bias is 'some'"):
        _change(saved(plain, tmp_path / "a"), bias="some")
    with pytest.raises(ShapeMismatch, match="not the one bias"):
        _change(saved(plain, tmp_path / "b"), **{"bias": "all", f"{prefix}.q_proj.bias": vector[None]})
    with pytest.raises(ShapeMismatch, match=r"lora_B\.bias"):
        _change(saved(plain, tmp_path / "c"), **{"lora_bias": True, f"{prefix}.q_proj.lora_B.bias": vector[:3]})
    for n, name in enumerate(("k_proj.bias", "o_proj.bias")):
        folder = saved(plain, tmp_path / f"d{n}")
        _change(folder, **{"bias": "all", f"{prefix}.{name}": vector[:5]})
        with pytest.raises(AdapterMismatch, match=r"has no bias of 5"):
            base.load_adapter(folder)


def test_peft_merges_our_sum_of_biases_where_the_base_has_them(base: Base, tmp_path: Path) -> None:
    plain = [random_adapter(base, f"a{n}", n, rank=3, target_modules=("q_proj",)) for n in (1, 2)]
    one, two = (with_random_biases(adapter, seed) for seed, adapter in enumerate(plain))
    total = weighted_sum([(updates_of(one), 1.0), (updates_of(two), 2.0)])
    both = as_adapter(total, name="both", base_name=base.name, fingerprint=base.fingerprint)
    merged = peft.PeftModel.from_pretrained(reference(base), saved(both, tmp_path / "both")).merge_and_unload()
    torch.testing.assert_close(theirs(merged), ours(base, ((one, 1.0), (two, 2.0))), atol=2e-5, rtol=1e-5)
