from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters import random_adapter
from nomoat.core.errors import AdapterMismatch, UsageError
from nomoat.core.store import Store
from nomoat.model.adapter_files import save_adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.stack.extract import extract
from nomoat.stack.merge import merge
from outcome import finished
from tiny import tiny_base

TOKENS = torch.randint(3, 259, (24,), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def store(own_home: Path) -> Store:
    return Store(own_home)


@pytest.fixture
def base(own_home: Path) -> Base:
    return tiny_base(own_home / "bases" / "tiny")


def logits(base: Base, worn: Stack = ()) -> torch.Tensor:
    with torch.no_grad():
        return base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), worn), worn)


def test_what_was_merged_is_extracted_whole(store: Store, base: Base) -> None:
    adapter = random_adapter(base, "one", 1, rank=3, target_modules=("q_proj", "down_proj", "embed_tokens"))
    with store.writing("adapters", "one") as folder:
        save_adapter(adapter, folder)
    finished(merge("tiny+one", store, name="tuned"))
    done, _ = finished(extract("models/tuned", "tiny", store, rank=3, name="found"))
    found = base.load_adapter(store.find("adapters", "found"))
    assert set(found.deltas) >= set(adapter.deltas) - {"model.embed_tokens"}
    assert done.result["kept_energy"] > 1 - 1e-6
    torch.testing.assert_close(logits(base, ((found, 1.0),)), logits(base, ((adapter, 1.0),)), atol=1e-3, rtol=1e-3)


def test_a_lower_rank_says_what_it_keeps_and_tuned_norms_are_said(store: Store, base: Base, own_home: Path) -> None:
    tuned = tiny_base(own_home / "bases" / "full").path
    weights = load_file(tuned / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    moved = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in weights.items()}
    save_file(moved, tuned / "model.safetensors")
    done, said = finished(extract("full", "tiny", store, rank=4, name="found"))
    assert 0.1 < done.result["kept_energy"] < 0.9 and done.result["highest_rank"] == 4
    assert "norms or biases were tuned too" in said


def test_the_same_model_and_another_shape_are_refused(store: Store, base: Base, own_home: Path) -> None:
    with pytest.raises(UsageError, match="nothing to extract"):
        finished(extract("tiny", "tiny", store, rank=4, name="found"))
    tiny_base(own_home / "bases" / "wide", intermediate_size=96)
    with pytest.raises(AdapterMismatch, match="down_proj"):
        finished(extract("wide", "tiny", store, rank=4, name="found"))
    with pytest.raises(UsageError, match="--rank"):
        finished(extract("tiny", "tiny", store, rank=0, name="found"))
