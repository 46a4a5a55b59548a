"""A stack folded into its base computes what the stack computes, and comes out again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

import models
from adapters import random_adapter, with_random_biases
from nomoat.core.errors import AdapterMismatch, UnsupportedType, UsageError
from nomoat.core.store import Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base, load_base
from nomoat.stack.merge import merge
from nomoat.stack.unmerge import unmerge
from nomoat.stack.update import updates_of
from outcome import finished
from tiny import tiny_base

TOKENS = torch.randint(3, 259, (24,), generator=torch.Generator().manual_seed(3))
WEIGHTS = "model.safetensors"


@pytest.fixture
def store(own_home: Path) -> Store:
    return Store(own_home)


@pytest.fixture
def base(own_home: Path) -> Base:
    return tiny_base(own_home / "bases" / "tiny", "qwen2")


def keep(store: Store, adapter: Adapter) -> Adapter:
    with store.writing("adapters", adapter.name) as folder:
        save_adapter(adapter, folder)
        parents = (Parent("base", "tiny", ""),)
        write_lineage(folder, Lineage(kind="adapters", name=adapter.name, licence="mit", parents=parents))
    return adapter


def logits(base: Base, worn: Stack = ()) -> torch.Tensor:
    with torch.no_grad():
        return base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), worn), worn)


def test_a_merged_stack_computes_what_the_stack_computes(store: Store, base: Base) -> None:
    plain = keep(store, random_adapter(base, "plain", 1, rank=3, use_rslora=True))
    dora = keep(store, random_adapter(base, "dora", 2, rank=2, use_dora=True, target_modules=("q_proj",)))
    done, _ = finished(merge("tiny+plain:0.5+dora", store, name="folded"))
    folded = load_base(store.find("models", "folded"))
    torch.testing.assert_close(logits(folded), logits(base, ((plain, 0.5), (dora, 1.0))), atol=1e-4, rtol=1e-4)
    assert done.result["rounding"] < 1e-4
    lineage = read_lineage(store.find("models", "folded"))
    assert lineage is not None and [parent.name for parent in lineage.parents] == ["tiny", "plain", "dora"]


def test_adapters_on_a_tied_embedding_or_head_untie_it(store: Store, base: Base) -> None:
    for module in ("embed_tokens", "lm_head"):
        adapter = keep(store, random_adapter(base, module, 3, rank=3, target_modules=(module, "q_proj")))
        finished(merge(f"tiny+{module}", store, name=f"with-{module}"))
        folder = store.find("models", f"with-{module}")
        assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
        torch.testing.assert_close(logits(load_base(folder)), logits(base, ((adapter, 1.0),)), atol=2e-4, rtol=1e-4)


def test_transformers_reads_a_merged_folder_with_the_same_logits(store: Store, base: Base) -> None:
    transformers = pytest.importorskip("transformers")
    adapter = keep(store, random_adapter(base, "words", 3, rank=3, target_modules=("embed_tokens", "down_proj")))
    finished(merge("tiny+words", store, name="folded"))
    folder = store.find("models", "folded")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = model(TOKENS[None]).logits[0]
    torch.testing.assert_close(theirs, logits(base, ((adapter, 1.0),)), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "embed_tokens"), ("lm_head",)])
def test_unmerging_restores_float32_weights_to_the_bit(targets: tuple[str, ...], store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "one", 1, rank=3, spread=0.2, target_modules=targets))
    keep(store, random_adapter(base, "two", 2, rank=2, spread=0.2, target_modules=targets))
    before = (base.path / WEIGHTS).read_bytes()
    finished(merge("tiny+one:0.7+two:-1.3", store, name="folded"))
    finished(unmerge("folded", store, name="restored"))
    restored = load_file(store.find("models", "restored") / WEIGHTS)
    original = load_file(base.path / WEIGHTS)
    assert set(restored) == set(original)
    assert all(np.array_equal(restored[name].view(np.uint32), original[name].view(np.uint32)) for name in original)
    assert (base.path / WEIGHTS).read_bytes() == before
    assert torch.equal(logits(load_base(store.find("models", "restored"))), logits(base))


def test_biases_are_folded_in_and_taken_out_to_the_bit_where_the_base_has_them(store: Store, base: Base) -> None:
    own = keep(store, with_random_biases(random_adapter(base, "own", 1, rank=3), 1, "q_proj", "v_proj", spread=0.5))
    other = keep(store, with_random_biases(random_adapter(base, "other", 2, rank=2), 2, "q_proj"))
    finished(merge("tiny+own:0.7+other:-1.3", store, name="folded"))
    folded = load_base(store.find("models", "folded"))
    torch.testing.assert_close(logits(folded), logits(base, ((own, 0.7), (other, -1.3))), atol=3e-4, rtol=1e-4)
    finished(unmerge("folded", store, name="restored"))
    restored, original = load_file(store.find("models", "restored") / WEIGHTS), load_file(base.path / WEIGHTS)
    assert all(np.array_equal(restored[name].view(np.uint32), original[name].view(np.uint32)) for name in original)
    keep(store, with_random_biases(random_adapter(base, "up", 3, rank=2), 2, "up_proj"))
    with pytest.raises(UsageError, match="up_proj a bias, and tiny has none"):
        finished(merge("tiny+up", store, name="never"))
    assert store.names("models") == ["folded", "restored"]


def test_unmerging_16_bit_weights_comes_as_near_as_their_rounding(store: Store, own_home: Path) -> None:
    half = tiny_base(own_home / "bases" / "tiny", "llama")
    stored = {name: value.bfloat16() for name, value in load_torch(half.path / WEIGHTS).items()}
    save_torch(stored, half.path / WEIGHTS)
    half = load_base(half.path, name="tiny")
    one = keep(store, random_adapter(half, "one", 1, rank=3))
    done, said = finished(merge("tiny+one", store, name="folded"))
    assert 1e-4 < done.result["rounding"] < 0.2
    assert "BF16 loses" in said or done.result["rounding"] <= 0.01
    undone, said = finished(unmerge("folded", store, name="restored"))
    assert "not to the bit" in said and undone.result["restored"] < undone.result["tensors"] == 14
    merged = load_torch(store.find("models", "folded") / WEIGHTS)
    error = sum(
        float((value.double() - stored[name].double()).square().sum())
        for name, value in load_torch(store.find("models", "restored") / WEIGHTS).items()
    )
    energy = sum(update.energy for update in updates_of(one).values())
    assert 0 < error / energy <= undone.result["off_at_most"] ** 2 * (1 + 1e-5)
    for name, value in load_torch(store.find("models", "restored") / WEIGHTS).items():
        assert value.dtype == torch.bfloat16
        # half a step of the merged value, half a step of the restored one
        bound = (merged[name].float().abs() + stored[name].float().abs()) * 2**-8
        assert bool(((value.float() - stored[name].float()).abs() <= bound + 1e-30).all()), name


def test_float32_can_be_asked_for_where_the_base_is_16_bit(store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "one", 1, rank=3))
    finished(merge("tiny+one", store, name="folded", dtype="BF16"))
    kinds = {name: value.dtype for name, value in load_torch(store.find("models", "folded") / WEIGHTS).items()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == torch.bfloat16
    assert kinds["model.norm.weight"] == torch.float32


def test_shards_and_their_index_stay_as_they_are(store: Store, base: Base) -> None:
    adapter = keep(store, random_adapter(base, "one", 1, rank=2))
    tensors = load_file(base.path / WEIGHTS)
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, str(base.path / f"model-{number}.safetensors"))
    places = {name: f"model-{place % 2}.safetensors" for place, name in enumerate(names)}
    (base.path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (base.path / WEIGHTS).unlink()
    finished(merge("tiny+one", store, name="folded"))
    folder = store.find("models", "folded")
    assert sorted(path.name for path in folder.glob("model-*.safetensors")) == [
        "model-0.safetensors", "model-1.safetensors",
    ]  # fmt: skip
    torch.testing.assert_close(logits(load_base(folder)), logits(base, ((adapter, 1.0),)), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_merged_or_unmerged_is_refused(store: Store, base: Base, own_home: Path) -> None:
    adapter = keep(store, random_adapter(base, "one", 1, rank=2))
    with pytest.raises(UsageError, match="wears no adapter"):
        finished(merge("tiny", store, name="folded"))
    finished(merge("tiny+one", store, name="folded"))
    with pytest.raises(UsageError, match="exists already"):
        finished(merge("tiny+one", store, name="folded"))
    with pytest.raises(UsageError, match="was not merged here"):
        (store.find("models", "folded") / "nomoat.json").rename(own_home / "aside.json")
        finished(unmerge("folded", store, name="restored"))
    (own_home / "aside.json").rename(store.find("models", "folded") / "nomoat.json")
    with torch.no_grad():
        next(iter(adapter.parameters().values())).add_(1.0)
    save_adapter(adapter, store.find("adapters", "one"))
    with pytest.raises(AdapterMismatch, match="changed since"):
        finished(unmerge("folded", store, name="restored"))


def test_a_dora_is_merged_but_not_taken_out_again(store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "dora", 2, rank=2, use_dora=True))
    finished(merge("tiny+dora", store, name="folded"))
    with pytest.raises(UsageError, match="is a DoRA"):
        finished(unmerge("folded", store, name="restored"))


@pytest.mark.real
def test_a_quantized_base_is_refused_with_what_to_do(store: Store) -> None:
    path = models.path("smollm2")
    keep(store, random_adapter(load_base(path, name="smollm2"), "one", 1, rank=1, target_modules=("q_proj",)))
    with pytest.raises(UnsupportedType, match="quantized") as caught:
        finished(merge(f"{path}+one", store, name="folded"))
    assert "Hugging Face folder" in caught.value.hint
    assert store.names("models") == []
