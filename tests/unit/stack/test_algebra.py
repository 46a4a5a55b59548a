from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters import dense, random_adapter, saved
from nomoat.core.errors import AdapterMismatch, UsageError
from nomoat.formats.peft_config import MAX_RANK
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.stack.algebra import as_adapter, check_same_base, config_for, difference, negated, weighted_sum
from nomoat.stack.update import Update, updates_of
from tiny import tiny_base

TOKENS = torch.randint(3, 259, (24,), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("algebra") / "base", "qwen2", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def several(base: Base) -> list[Adapter]:
    """Every kind of low-rank adapter: plain, rsLoRA, patterns, other targets, embeddings, PiSSA."""
    return [
        random_adapter(base, "plain", 1, rank=4, alpha=8),
        random_adapter(base, "rslora", 2, rank=3, alpha=5, use_rslora=True),
        random_adapter(base, "patterns", 3, rank=2, rank_pattern={"q_proj": 5}, alpha_pattern={"1.mlp.up_proj": 1}),
        random_adapter(base, "targets", 4, rank=6, target_modules=("q_proj", "embed_tokens", "lm_head")),
        random_adapter(base, "pissa", 5, rank=2, init="pissa", target_modules=("down_proj",)),
    ]  # fmt: skip


def logits(base: Base, stack: Stack) -> torch.Tensor:
    with torch.no_grad():
        return base.decoder.logits(base.decoder(TOKENS, Layout([len(TOKENS)]), stack), stack)


def made(base: Base, updates: dict[str, Update], name: str = "made") -> Adapter:
    return as_adapter(updates, name=name, base_name=base.name, fingerprint=base.fingerprint)


def test_the_sum_of_every_kind_of_adapter_is_the_sum_of_their_updates(base: Base, several: list[Adapter]) -> None:
    weights = [0.5, -1.5, 1.0, 2.0, 0.25]
    total = weighted_sum([(updates_of(each), weight) for each, weight in zip(several, weights)])
    for module, update in total.items():
        expected = sum(
            weight * dense(each, base)[module] for each, weight in zip(several, weights) if module in each.deltas
        )
        torch.testing.assert_close(update.dense(), expected, atol=1e-6, rtol=1e-6)
    assert set(total) == {module for each in several for module in each.deltas}


def test_the_sum_as_one_adapter_computes_what_the_stack_computes(base: Base, several: list[Adapter]) -> None:
    weights = [0.5, -0.5, 1.0, 0.7, 0.25]
    total = made(base, weighted_sum([(updates_of(each), weight) for each, weight in zip(several, weights)]))
    torch.testing.assert_close(
        logits(base, ((total, 1.0),)), logits(base, tuple(zip(several, weights))), atol=2e-4, rtol=1e-4
    )


def test_the_difference_takes_the_second_away(base: Base, several: list[Adapter]) -> None:
    first, second = several[0], several[1]
    gap = difference(updates_of(first), updates_of(second))
    module = "model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(
        gap[module].dense(), dense(first, base)[module] - dense(second, base)[module], atol=1e-6, rtol=1e-6
    )
    minus = negated(updates_of(first))
    assert torch.equal(minus[module].dense(), -updates_of(first)[module].dense())


def test_every_module_of_the_sum_has_the_scaling_1_whichever_rank_it_has(base: Base, several: list[Adapter]) -> None:
    total = made(base, weighted_sum([(updates_of(each), 1.0) for each in several]))
    for module, delta in total.deltas.items():
        assert total.config.rank_of(module) == delta.rank
        assert total.config.scaling_of(module) == delta.scaling == 1.0


def test_a_sum_is_saved_and_read_back_unchanged(base: Base, several: list[Adapter], tmp_path: Path) -> None:
    total = made(base, weighted_sum([(updates_of(each), 0.5) for each in several]))
    loaded = base.load_adapter(saved(total, tmp_path / "sum"))
    assert torch.equal(logits(base, ((loaded, 1.0),)), logits(base, ((total, 1.0),)))


def test_a_dora_adds_what_the_decoder_says_it_adds(base: Base) -> None:
    dora = random_adapter(base, "dora", 7, rank=3, use_dora=True)
    exact = made(base, updates_of(dora, base.decoder))
    torch.testing.assert_close(logits(base, ((exact, 1.0),)), logits(base, ((dora, 1.0),)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(base, ((exact, 0.5),)), logits(base, ((dora, 0.5),)), atol=1e-4, rtol=1e-4)


def test_a_dora_that_starts_as_pissa_does_changes_nothing_yet_and_is_saved_as_it_is(base: Base, tmp_path: Path) -> None:
    fresh = base.new_adapter(AdapterConfig(rank=3, use_dora=True, init="pissa"), seed=1, name="fresh")
    torch.testing.assert_close(logits(base, ((fresh, 1.0),)), logits(base, ()), atol=1e-5, rtol=1e-5)
    moved = random_adapter(base, "moved", 2, rank=3, use_dora=True, init="pissa")
    loaded = base.load_adapter(saved(moved, tmp_path / "moved"))
    torch.testing.assert_close(logits(base, ((loaded, 1.0),)), logits(base, ((moved, 1.0),)), atol=1e-4, rtol=1e-4)


def test_a_dora_without_its_base_is_refused(base: Base) -> None:
    dora = random_adapter(base, "dora", 7, rank=3, use_dora=True)
    with pytest.raises(UsageError, match="is a DoRA"):
        updates_of(dora)


def test_adapters_of_two_bases_are_refused_by_their_fingerprints(base: Base, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", "qwen2", seed=1, tie_word_embeddings=False)
    mixed = [random_adapter(base, "mine", 1, rank=2), random_adapter(other, "theirs", 2, rank=2)]
    with pytest.raises(AdapterMismatch, match="'theirs' was trained on"):
        check_same_base(mixed)


def test_nothing_and_too_much_are_refused(base: Base) -> None:
    with pytest.raises(UsageError, match="nothing is left"):
        made(base, weighted_sum([({}, 1.0)]))
    rank = MAX_RANK + 1
    tall = Update(torch.zeros(rank, 32), torch.zeros(32, rank))
    with pytest.raises(UsageError, match=f"rank {rank:,}") as caught:
        made(base, {"model.layers.0.self_attn.q_proj": tall})
    assert "--rank" in caught.value.hint


def test_ranks_are_named_by_kind_where_a_kind_agrees_and_in_full_where_it_does_not() -> None:
    ranks = {"l.0.q": 4, "l.1.q": 4, "l.0.k": 4, "l.1.k": 4, "l.0.up": 9, "l.1.up": 9, "l.0.down": 4, "l.1.down": 7}
    config = config_for(ranks)
    assert config.rank == 4 and config.rank_pattern == {"up": 9, "l.1.down": 7}
    assert {module: config.rank_of(module) for module in ranks} == ranks
    assert all(config.scaling_of(module) == 1.0 for module in ranks)
