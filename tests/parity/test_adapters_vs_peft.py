"""Adapters travel both ways: what peft saves loads here with the same logits, and ours loads there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nomoat.core.errors import AdapterMismatch
from nomoat.engine.reward import rewards
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.stack.algebra import as_adapter, weighted_sum
from nomoat.stack.update import updates_of
from tiny import tiny_base

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(3, 259, (40,), generator=torch.Generator().manual_seed(3))
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ALL},
    "rslora": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ALL,
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 6},
        "alpha_pattern": {"down_proj": 3, "model.layers.0.self_attn.k_proj": 5},
    },
    "dora": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "use_dora": True},
    "embeddings": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "regex": {"r": 4, "lora_alpha": 8, "target_modules": r".*layers\.1\.mlp\..*_proj"},
}


def ours(base: Base, adapter: Adapter) -> torch.Tensor:
    with torch.no_grad():
        stack = ((adapter, 1.0),)
        return base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), stack), stack)


def theirs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS[None]).logits[0]


def random_(parameters: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny_base(tmp_path / "base", "qwen2", tie_word_embeddings=False)


def reference_model(base: Base) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_saved_by_peft_gives_the_same_logits_here(kind: str, base: Base, tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", **KINDS[kind])
    model = peft.get_peft_model(reference_model(base), config).eval()
    random_([p for name, p in sorted(model.named_parameters()) if "lora_" in name], seed=4)
    model.save_pretrained(tmp_path / "adapter")
    loaded = base.load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(ours(base, loaded), theirs(model), atol=2e-5, rtol=1e-5)


def classifier(base: Base) -> Any:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base.path, num_labels=1, dtype=torch.float32, pad_token_id=2
    )
    return model.eval()


def rewarded(base: Base, adapter: Adapter) -> float:
    return rewards(base, [TOKENS.tolist()], ((adapter, 1.0),))[0]


def test_a_reward_model_saved_by_peft_gives_the_same_rewards_here(base: Base, tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type="SEQ_CLS", **KINDS["plain"])
    model = peft.get_peft_model(classifier(base), config).eval()
    random_([p for name, p in sorted(model.named_parameters()) if "lora_" in name or "score" in name], seed=4)
    model.save_pretrained(tmp_path / "adapter")
    loaded = base.load_adapter(tmp_path / "adapter")
    assert rewarded(base, loaded) == pytest.approx(theirs(model).item(), abs=2e-5)


def test_our_reward_model_loads_in_peft_with_the_same_rewards(base: Base, tmp_path: Path) -> None:
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=8, reward_head=True), seed=1, name="rm")
    random_(adapter.parameters().values(), seed=5)
    save_adapter(adapter, tmp_path)
    model = peft.PeftModel.from_pretrained(classifier(base), tmp_path).eval()
    assert theirs(model).item() == pytest.approx(rewarded(base, adapter), abs=2e-5)
    assert rewarded(base, base.load_adapter(tmp_path)) == pytest.approx(rewarded(base, adapter), abs=1e-6)


@pytest.mark.parametrize("rslora", [False, True])
def test_modules_that_peft_saved_whole_give_the_same_logits_here_and_stack_exactly(
    rslora: bool, base: Base, tmp_path: Path
) -> None:
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], use_rslora=rslora,
        modules_to_save=["lm_head", "embed_tokens"],
    )  # fmt: skip
    model = peft.get_peft_model(reference_model(base), config).eval()
    learned = [(name, p) for name, p in sorted(model.named_parameters()) if "lora_" in name or "to_save" in name]
    random_([parameter for _, parameter in learned], seed=4)
    model.save_pretrained(tmp_path / "adapter")
    loaded = base.load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(ours(base, loaded), theirs(model), atol=2e-5, rtol=1e-5)

    other = base.new_adapter(AdapterConfig(rank=2, alpha=3.0, target_modules=("lm_head", "v_proj")), seed=1, name="b")
    random_(other.parameters().values(), seed=5)
    summed = weighted_sum([(updates_of(loaded), 1.0), (updates_of(other), 0.5)])
    both = as_adapter(summed, name="both", base_name=base.name, fingerprint=base.fingerprint)
    stack = ((loaded, 1.0), (other, 0.5))
    with torch.no_grad():
        apart = base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), stack), stack)
    torch.testing.assert_close(ours(base, both), apart, atol=2e-5, rtol=1e-5)
    (tmp_path / "again").mkdir()
    save_adapter(loaded, tmp_path / "again")
    torch.testing.assert_close(ours(base, base.load_adapter(tmp_path / "again")), ours(base, loaded))


def test_a_saved_module_of_another_vocabulary_is_refused(base: Base, tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = peft.get_peft_model(reference_model(base), config)
    model.save_pretrained(tmp_path / "adapter")
    other = tiny_base(tmp_path / "other", "qwen2", merges=[("a", "b")], tie_word_embeddings=False)
    with pytest.raises(AdapterMismatch, match="lm_head"):
        other.load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("kind", ["plain", "rslora", "patterns", "dora", "embeddings"])
def test_an_adapter_saved_here_gives_the_same_logits_in_peft(kind: str, base: Base, tmp_path: Path) -> None:
    settings = KINDS[kind]
    adapter = base.new_adapter(
        AdapterConfig(
            rank=settings["r"],
            alpha=settings["lora_alpha"],
            target_modules=tuple(settings["target_modules"]),
            use_rslora=settings.get("use_rslora", False),
            use_dora=settings.get("use_dora", False),
            rank_pattern=settings.get("rank_pattern", {}),
            alpha_pattern=settings.get("alpha_pattern", {}),
        ),
        seed=5,
        name="ours",
    )
    random_(adapter.parameters().values(), seed=6)
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_adapter(adapter, folder)
    model = peft.PeftModel.from_pretrained(reference_model(base), folder).eval()
    torch.testing.assert_close(ours(base, adapter), theirs(model), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours(base, base.load_adapter(folder)), ours(base, adapter), atol=1e-6, rtol=1e-6)


def test_an_adapter_on_the_top_layers_is_on_these_alone_in_peft(base: Base, tmp_path: Path) -> None:
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=8, first_layer=1), seed=5, name="top")
    random_(adapter.parameters().values(), seed=6)
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_adapter(adapter, folder)
    model = peft.PeftModel.from_pretrained(reference_model(base), folder).eval()
    torch.testing.assert_close(ours(base, adapter), theirs(model), atol=2e-5, rtol=1e-5)
    assert not [name for name, _ in model.named_parameters() if "lora_" in name and ".layers.0." in name]


@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_pissa_adapter_starts_at_nothing_and_is_saved_as_the_plain_lora_it_equals(
    use_rslora: bool, base: Base, tmp_path: Path
) -> None:
    config = AdapterConfig(rank=4, alpha=8, init="pissa", use_rslora=use_rslora, rank_pattern={"q_proj": 2})
    adapter = base.new_adapter(config, seed=5, name="principal")
    with torch.no_grad():
        plain = base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)])))
    torch.testing.assert_close(ours(base, adapter), plain, atol=1e-4, rtol=1e-4)
    random_(adapter.parameters().values(), seed=6)
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_adapter(adapter, folder)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 8
    model = peft.PeftModel.from_pretrained(reference_model(base), folder).eval()
    torch.testing.assert_close(ours(base, adapter), theirs(model), atol=1e-4, rtol=1e-4)


def test_two_adapters_with_weights_add_their_updates(base: Base) -> None:
    adapters = []
    for seed in (1, 2):
        adapter = base.new_adapter(AdapterConfig(rank=3 + seed, alpha=4), seed=seed, name=f"a{seed}")
        random_(adapter.parameters().values(), seed=seed)
        adapters.append(adapter)
    layer = next(m for m in base.decoder.modules() if getattr(m, "name", "") == "model.layers.0.mlp.up_proj")
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        stacked = layer(x, ((adapters[0], 0.5), (adapters[1], -2.0)))
        update = torch.zeros(64, 32)
        for adapter, weight in zip(adapters, (0.5, -2.0)):
            delta = adapter.deltas["model.layers.0.mlp.up_proj"]
            update += weight * delta.scaling * delta.lora_B @ delta.lora_A
        torch.testing.assert_close(stacked, layer(x, ()) + x @ update.T, atol=1e-5, rtol=1e-5)


def test_an_adapter_of_another_base_is_refused_with_the_names_of_both(base: Base, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", "qwen2", seed=1, tie_word_embeddings=False)
    adapter = other.new_adapter(AdapterConfig(rank=2), seed=0, name="foreign")
    folder = tmp_path / "foreign"
    folder.mkdir()
    save_adapter(adapter, folder)
    with pytest.raises(AdapterMismatch) as caught:
        base.load_adapter(folder)
    assert caught.value.expected == other.name and caught.value.got == base.name
    assert "norm weights differ" in caught.value.message
