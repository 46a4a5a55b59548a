"""Adapters of a store to one new adapter with its lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import dense, random_adapter, with_random_biases
from nomoat.core.errors import AdapterMismatch, UsageError
from nomoat.core.files import sha256_file
from nomoat.core.store import Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.engine.score import loss
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.stack.job import open_parts, stack
from nomoat.stack.methods import Mix, ties
from nomoat.stack.options import CombineOptions
from outcome import finished
from tiny import tiny_base


@pytest.fixture
def store(own_home: Path) -> Store:
    return Store(own_home)


@pytest.fixture
def base(own_home: Path) -> Base:
    return tiny_base(own_home / "bases" / "tiny")


def keep(store: Store, adapter: Adapter, licence: str = "") -> None:
    with store.writing("adapters", adapter.name) as folder:
        save_adapter(adapter, folder)
        parents = (Parent("base", "tiny", ""),)
        write_lineage(folder, Lineage(kind="adapters", name=adapter.name, licence=licence, parents=parents))


@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"method": "knots_ties"}, {"method": "ties", "rank": 2}])
def test_biases_are_combined_by_the_method_and_survive_compression(
    options: dict[str, Any], store: Store, own_home: Path
) -> None:
    base = tiny_base(own_home / "bases" / "tiny", "qwen2")
    first = with_random_biases(random_adapter(base, "scribe", 1, rank=3), 1, "q_proj")
    second = with_random_biases(random_adapter(base, "sql", 2, rank=2), 2, "q_proj", "k_proj")
    with torch.no_grad():  # a module with a bias alone
        second.deltas["model.layers.0.self_attn.k_proj"].lora_B.zero_()
    keep(store, first)
    keep(store, second)
    finished(stack(open_parts(store, ["scribe", "sql:0.5"]), CombineOptions(**options), store, name="both"))
    both = base.load_adapter(store.find("adapters", "both")).deltas
    pair = [adapter.deltas["model.layers.0.self_attn.q_proj"].bias for adapter in (first, second)]
    assert pair[0] is not None and pair[1] is not None
    wanted = pair[0] + 0.5 * pair[1]
    if "ties" in options.get("method", ""):
        columns = [bias[:, None] for bias in pair if bias is not None]
        wanted = ties(columns, Mix((1.0, 0.5), (0.5, 0.5), torch.Generator(), normalize=True))[:, 0]
    torch.testing.assert_close(both["model.layers.0.self_attn.q_proj"].bias, wanted, atol=1e-6, rtol=1e-5)
    assert both["model.layers.0.self_attn.k_proj"].bias is not None


def test_two_adapters_become_one_that_is_their_exact_sum(store: Store, base: Base) -> None:
    first = random_adapter(base, "scribe", 1, rank=3)
    second = random_adapter(base, "sql", 2, rank=2, target_modules=("q_proj", "down_proj"), use_rslora=True)
    keep(store, first, "mit")
    keep(store, second, "apache-2.0 AND mit")
    done, said = finished(stack(open_parts(store, ["scribe", "sql:0.5"]), CombineOptions(), store, name="both"))
    assert done.result["highest_rank"] == 5 and done.result["kept_energy"] == 1.0
    assert "exact, at rank 5" in said and "rank_pattern" in said
    both = dense(base.load_adapter(store.find("adapters", "both")), base)
    for module, matrix in dense(first, base).items():
        other = dense(second, base).get(module, torch.zeros_like(matrix))
        torch.testing.assert_close(both[module], matrix + 0.5 * other, atol=1e-6, rtol=1e-6)


def test_the_lineage_names_parents_licences_method_and_weights(store: Store, base: Base) -> None:
    for name, seed, licence in (("scribe", 1, "mit"), ("sql", 2, "apache-2.0 AND mit")):
        keep(store, random_adapter(base, name, seed, rank=2), licence)
    options = CombineOptions(method="ties", rank=4, density=0.3)
    finished(stack(open_parts(store, ["scribe", "sql:0.5"]), options, store, name="both"))
    folder = store.find("adapters", "both")
    lineage = read_lineage(folder)
    assert lineage is not None
    assert [(parent.kind, parent.name) for parent in lineage.parents] == [
        ("base", "tiny"), ("adapter", "scribe"), ("adapter", "sql"),
    ]  # fmt: skip
    weights_file = store.find("adapters", "sql") / "adapter_model.safetensors"
    assert lineage.parents[2].sha256 == sha256_file(weights_file)
    assert lineage.licence == "mit AND apache-2.0"
    assert lineage.options["method"] == "ties" and lineage.options["weights"] == {"scribe": 1.0, "sql": 0.5}
    assert 0 < lineage.metrics["kept_energy"] < 1
    card = (folder / "README.md").read_text()
    assert "made of `scribe` at 1, `sql` at 0.5 by ties" in card and "keeping" in card


def test_compression_is_counted_and_an_energy_chooses_ranks(store: Store, base: Base) -> None:
    for seed in (1, 2):
        keep(store, random_adapter(base, f"a{seed}", seed, rank=4))
    lost, said = finished(stack(open_parts(store, ["a1", "a2"]), CombineOptions(rank=3), store, name="small"))
    assert lost.result["highest_rank"] == 3 and lost.result["kept_energy"] < 1
    assert "compression keeps" in said
    enough, _ = finished(stack(open_parts(store, ["a1", "a2"]), CombineOptions(energy=0.95), store, name="enough"))
    assert all(module["kept"] >= 0.95 for module in enough.result["modules"])
    assert enough.result["highest_rank"] < 8


def test_with_doras_the_sum_is_a_dora_of_the_ranks_together(store: Store, base: Base) -> None:
    several = [random_adapter(base, "plain", 1, rank=2),
               *(random_adapter(base, f"dora{seed}", seed, rank=seed, use_dora=True) for seed in (2, 3))]  # fmt: skip
    for adapter in several:
        keep(store, adapter)
    opened = open_parts(store, ["plain:0.8", "dora2:0.5", "dora3:-0.4"])
    done, said = finished(stack(opened, CombineOptions(), store, name="sum"))
    assert "the sum is a DoRA" in said
    both = base.load_adapter(store.find("adapters", "sum"))
    assert both.config.use_dora and done.result["highest_rank"] == 7
    found, parts = dense(both, base), [dense(adapter, base) for adapter in several]
    for module, matrix in found.items():
        expected = sum(weight * part[module] for weight, part in zip((0.8, 0.5, -0.4), parts))
        torch.testing.assert_close(matrix, expected, atol=1e-5, rtol=1e-4)
    rows = [Encoded([1, 9, 30, 77, 5], [False, True, True, True, True])]
    assert loss(base, rows, ((both, 1.0),))[0] == pytest.approx(loss(base, rows, opened.worn)[0], abs=1e-5)
    keep(store, random_adapter(base, "twin", 2, rank=2, use_dora=True))
    finished(stack(open_parts(store, ["plain", "dora2", "twin:-1"]), CombineOptions(), store, name="left"))
    for module, matrix in dense(base.load_adapter(store.find("adapters", "left")), base).items():
        torch.testing.assert_close(matrix, parts[0][module], atol=1e-5, rtol=1e-4)


def test_a_sum_that_takes_whole_rows_of_the_base_away_is_refused(store: Store, base: Base) -> None:
    dora = random_adapter(base, "dora", 2, rank=2, use_dora=True)
    with torch.no_grad():
        for delta in dora.deltas.values():
            assert delta.magnitude is not None
            delta.magnitude[0] = 0.0
    keep(store, dora)
    with pytest.raises(UsageError, match="takes whole rows of the base away"):
        finished(stack(open_parts(store, ["dora"]), CombineOptions(), store, name="none"))


def test_in_what_is_no_sum_a_dora_needs_a_rank(store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "plain", 1, rank=2))
    dora = random_adapter(base, "dora", 2, rank=2, use_dora=True)
    keep(store, dora)
    opened = open_parts(store, ["plain", "dora"])
    with pytest.raises(UsageError, match="'dora' is a DoRA") as caught:
        finished(stack(opened, CombineOptions(method="slerp"), store, name="both"))
    assert "--rank" in caught.value.hint
    done, _ = finished(stack(opened, CombineOptions(rank=32), store, name="both"))
    both, plain = dense(base.load_adapter(store.find("adapters", "both")), base), dense(opened.adapters[0], base)
    for module, matrix in dense(dora, base).items():
        torch.testing.assert_close(both[module], plain[module] + matrix, atol=1e-5, rtol=1e-4)
    assert done.result["kept_energy"] == pytest.approx(1.0, abs=1e-9)


def test_adapters_that_cancel_leave_nothing(store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "one", 1, rank=2))
    keep(store, random_adapter(base, "same", 1, rank=2))
    with pytest.raises(UsageError, match="nothing is left"):
        finished(stack(open_parts(store, ["one", "same:-1"]), CombineOptions(rank=2), store, name="none"))


def test_an_adapter_of_another_base_is_refused(store: Store, base: Base, own_home: Path) -> None:
    keep(store, random_adapter(base, "mine", 1, rank=2))
    other = tiny_base(own_home / "bases" / "other", seed=1)
    keep(store, random_adapter(other, "theirs", 2, rank=2))
    with pytest.raises(AdapterMismatch, match="'theirs'"):
        open_parts(store, ["mine", "theirs"])


def test_a_taken_name_is_refused_before_the_work(store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "one", 1, rank=2))
    with pytest.raises(UsageError, match="there is an adapter 'one' already"):
        finished(stack(open_parts(store, ["one:0.5"]), CombineOptions(), store, name="one"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (CombineOptions(method="ties"), "full rank"),
        (CombineOptions(method="sum"), "no method"),
        (CombineOptions(rank=-1), "--rank"),
        (CombineOptions(energy=1.5), "--energy"),
        (CombineOptions(method="dare", rank=2, density=0.0), "--density"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: CombineOptions, words: str, store: Store, base: Base) -> None:
    keep(store, random_adapter(base, "one", 1, rank=2))
    with pytest.raises(UsageError, match=words):
        finished(stack(open_parts(store, ["one"]), options, store, name="new"))


def test_what_is_drawn_depends_on_the_seed_alone(store: Store, base: Base) -> None:
    for seed in (1, 2):
        keep(store, random_adapter(base, f"a{seed}", seed, rank=2))
    opened = open_parts(store, ["a1", "a2"])
    for name, seed in (("x", 0), ("y", 0), ("z", 1)):
        finished(stack(opened, CombineOptions(method="dare", rank=4, seed=seed), store, name=name))
    x, y, z = ((store.find("adapters", name) / "adapter_model.safetensors").read_bytes() for name in "xyz")
    assert x == y != z
