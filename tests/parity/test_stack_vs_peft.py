"""Combinations against peft's ``add_weighted_adapter``: the same where it is right, ours right where it is not.

peft's ``svd``, ``ties_svd`` and ``magnitude_prune_svd`` work on the updates, as ours do. Its ``linear`` and ``ties``
mix the factors A and B apart from each other, which is another thing, and are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import dense, random_adapter, saved
from nomoat.core.records import Done
from nomoat.core.store import Store
from nomoat.model.adapters import Adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.stack.job import OpenStack, stack
from nomoat.stack.options import CombineOptions
from tiny import tiny_base

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(3, 259, (20,), generator=torch.Generator().manual_seed(3))
MODULE = "model.layers.0.mlp.down_proj"


@pytest.fixture
def base(own_home: Path) -> Base:
    return tiny_base(own_home / "bases" / "tiny", "qwen2", tie_word_embeddings=False)


def ours(base: Base, worn: Stack) -> torch.Tensor:
    with torch.no_grad():
        return base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), worn), worn)


def theirs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS[None]).logits[0]


def reference(base: Base, folders: Sequence[Path]) -> Any:
    plain = transformers.AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    model = peft.PeftModel.from_pretrained(plain, folders[0], adapter_name=folders[0].name)
    for folder in folders[1:]:
        model.load_adapter(folder, adapter_name=folder.name)
    return model.eval()


def combined(base: Base, adapters: Sequence[Adapter], weights: Sequence[float], options: CombineOptions) -> Path:
    store = Store()
    opened = OpenStack(base, tuple(zip(adapters, weights)), ())
    *_, done = stack(opened, options, store, name="both", replace=True)
    assert isinstance(done, Done) and done.path is not None
    return done.path


def their_update(model: Any, name: str) -> torch.Tensor:
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    return layer.get_delta_weight(name).detach()


@pytest.mark.parametrize(
    ("ours_called", "theirs_called"),
    [("concat", "svd"), ("ties", "ties_svd"), ("magnitude_prune", "magnitude_prune_svd")],
)
def test_methods_on_updates_agree_with_peft(ours_called: str, theirs_called: str, base: Base, tmp_path: Path) -> None:
    pair = [random_adapter(base, f"a{seed}", seed, rank=4, alpha=8) for seed in (1, 2)]
    # theirs divides by the number of those that agree, ours by their weights: at weight 1 it is the same mean
    weights = [1.0, 1.0] if ours_called == "ties" else [1.0, 0.5]
    model = reference(base, [saved(each, tmp_path / each.name) for each in pair])
    model.base_model.add_weighted_adapter(
        ["a1", "a2"], weights, "both", combination_type=theirs_called, svd_rank=6, density=0.4
    )
    path = combined(base, pair, weights, CombineOptions(method=ours_called, rank=6, density=0.4))
    found = dense(base.load_adapter(path), base)[MODULE]
    torch.testing.assert_close(found, their_update(model, "both"), atol=1e-5, rtol=1e-4)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"rank": 4, "alpha": 8},
    "rslora": {"rank": 4, "alpha": 8, "use_rslora": True},
    "patterns": {"rank": 4, "rank_pattern": {"q_proj": 2, "1.mlp.down_proj": 6}, "alpha_pattern": {"up_proj": 3}},
    "embeddings": {"rank": 3, "target_modules": ("q_proj", "embed_tokens", "lm_head")},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_combine_is_read_by_peft_with_the_same_logits(kind: str, base: Base, tmp_path: Path) -> None:
    pair = [random_adapter(base, "one", 1, rank=2), random_adapter(base, "two", 2, **KINDS[kind])]
    path = combined(base, pair, (1.0, -0.5), CombineOptions())
    stacked = ours(base, ((pair[0], 1.0), (pair[1], -0.5)))
    torch.testing.assert_close(theirs(reference(base, [path])), stacked, atol=2e-4, rtol=1e-4)


def test_one_rslora_at_weight_1_is_itself_here_and_is_not_in_peft(base: Base, tmp_path: Path) -> None:
    rslora = random_adapter(base, "steady", 1, rank=4, alpha=8, use_rslora=True)
    alone = ours(base, ((rslora, 1.0),))
    path = combined(base, [rslora], [1.0], CombineOptions())
    torch.testing.assert_close(ours(base, ((base.load_adapter(path), 1.0),)), alone, atol=1e-4, rtol=1e-4)
    model = reference(base, [saved(rslora, tmp_path / "steady")])
    model.base_model.add_weighted_adapter(["steady"], [1.0], "same", combination_type="cat")
    model.set_adapter("same")
    if float((theirs(model) - alone).abs().max()) < 1e-3:
        pytest.skip("this peft combines rsLoRA rightly")


def test_a_dora_compressed_to_full_rank_is_itself_here_and_is_not_in_peft(base: Base, tmp_path: Path) -> None:
    dora = random_adapter(base, "weighed", 1, rank=4, alpha=8, use_dora=True)
    alone = ours(base, ((dora, 1.0),))
    path = combined(base, [dora], [1.0], CombineOptions(rank=32))
    torch.testing.assert_close(ours(base, ((base.load_adapter(path), 1.0),)), alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs(reference(base, [path])), alone, atol=1e-4, rtol=1e-4)
    model = reference(base, [saved(dora, tmp_path / "weighed")])
    try:
        model.base_model.add_weighted_adapter(["weighed"], [1.0], "same", combination_type="cat")
    except (ValueError, NotImplementedError):
        pytest.skip("this peft refuses DoRA")
    model.set_adapter("same")
    if float((theirs(model) - alone).abs().max()) < 1e-3:
        pytest.skip("this peft combines DoRA rightly")


def test_a_sum_of_different_ranks_is_reloaded_here_and_in_peft(base: Base, tmp_path: Path) -> None:
    pair = [
        random_adapter(base, "wide", 1, rank=5, target_modules=("q_proj", "up_proj")),
        random_adapter(base, "odd", 2, rank=2, rank_pattern={"layers.0.self_attn.q_proj": 7}),
    ]
    path = combined(base, pair, (1.0, 1.0), CombineOptions())
    expected = ours(base, ((pair[0], 1.0), (pair[1], 1.0)))
    torch.testing.assert_close(ours(base, ((base.load_adapter(path), 1.0),)), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs(reference(base, [path])), expected, atol=2e-4, rtol=1e-4)
