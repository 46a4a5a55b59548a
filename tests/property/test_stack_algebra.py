"""Laws of stacking, over adapters of any rank, scale and target, embeddings and head included."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.formats.peft import read_adapter
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.delta import Delta
from nomoat.stack.algebra import as_adapter, difference, weighted_sum
from nomoat.stack.compress import spectrum_of
from nomoat.stack.update import Updates, updates_of

SIZES = {
    "model.embed_tokens": (12, 30),
    "model.layers.0.self_attn.q_proj": (12, 12),
    "model.layers.0.mlp.down_proj": (12, 20),
    "model.layers.1.mlp.down_proj": (12, 20),
    "lm_head": (30, 12),
}
weights = st.floats(-2, 2, allow_nan=False).filter(lambda weight: abs(weight) > 1e-3)


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    """Any low-rank adapter over ``SIZES``: rank, alpha, rsLoRA and targets vary."""
    modules = draw(st.lists(st.sampled_from(sorted(SIZES)), min_size=1, unique=True))
    config = AdapterConfig(
        rank=draw(st.integers(1, 8)),
        alpha=draw(st.floats(0.25, 32)),
        target_modules=tuple(modules),
        use_rslora=draw(st.booleans()),
        rank_pattern=draw(st.dictionaries(st.sampled_from(["down_proj", "lm_head"]), st.integers(1, 8))),
    )
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    deltas = {}
    for module in modules:
        out_dim, in_dim = SIZES[module]
        rank = config.rank_of(module)
        a = torch.randn(rank, in_dim, generator=rng) / in_dim
        b = torch.randn(out_dim, rank, generator=rng) / rank
        deltas[module] = Delta(torch.nn.Parameter(a), torch.nn.Parameter(b), config.scaling_of(module))
    return Adapter("drawn", config, deltas, "some base")


def matrices(updates: Updates) -> dict[str, torch.Tensor]:
    return {module: update.dense() for module, update in updates.items()}


def expected(parts: list[tuple[Adapter, float]]) -> dict[str, torch.Tensor]:
    total: dict[str, torch.Tensor] = {}
    for adapter, weight in parts:
        for module, delta in adapter.deltas.items():
            matrix = weight * delta.scaling * (delta.lora_B @ delta.lora_A).detach().double()
            total[module] = total.get(module, 0) + matrix  # type: ignore[operator]
    return total


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], bound: float = 1e-6) -> None:
    assert set(found) == set(wanted)
    for module, matrix in wanted.items():
        scale = max(1.0, float(matrix.abs().max()))
        torch.testing.assert_close(found[module].double() / scale, matrix.double() / scale, atol=bound, rtol=0)


@given(adapters())
@settings(max_examples=30, deadline=None)
def test_a_stack_of_one_at_weight_1_is_that_adapter(adapter: Adapter) -> None:
    assert_same(matrices(weighted_sum([(updates_of(adapter), 1.0)])), expected([(adapter, 1.0)]))


@given(st.lists(st.tuples(adapters(), weights), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_a_sum_is_the_sum_of_the_parts_updates(parts: list[tuple[Adapter, float]]) -> None:
    total = weighted_sum([(updates_of(adapter), weight) for adapter, weight in parts])
    assert_same(matrices(total), expected(parts))


@given(adapters())
@settings(max_examples=20, deadline=None)
def test_a_minus_a_is_nothing(adapter: Adapter) -> None:
    gone = difference(updates_of(adapter), updates_of(adapter))
    for module, update in gone.items():
        scale = max(1.0, float(updates_of(adapter)[module].dense().abs().max()))
        assert float(update.dense().abs().max()) / scale < 1e-6


@given(st.lists(st.tuples(adapters(), weights), min_size=2, max_size=3))
@settings(max_examples=15, deadline=None)
def test_order_does_not_matter(parts: list[tuple[Adapter, float]]) -> None:
    wanted = expected(parts)
    for order in itertools.permutations(parts):
        assert_same(matrices(weighted_sum([(updates_of(adapter), weight) for adapter, weight in order])), wanted)


@given(st.lists(st.tuples(adapters(), weights), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_concatenation_then_a_decomposition_at_full_rank_is_the_identity(parts: list[tuple[Adapter, float]]) -> None:
    total = weighted_sum([(updates_of(adapter), weight) for adapter, weight in parts])
    spectra = {module: spectrum_of(update) for module, update in total.items()}
    whole = {module: spectrum.truncated(len(spectrum.s)).dense() for module, spectrum in spectra.items()}
    assert_same(whole, expected(parts), bound=2e-6)
    assert all(spectrum.kept(len(spectrum.s)) > 1 - 1e-9 for spectrum in spectra.values())


@given(adapters(), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_compression_never_keeps_more_than_there_is_nor_less_at_a_higher_rank(adapter: Adapter, rank: int) -> None:
    for update in updates_of(adapter).values():
        spectrum = spectrum_of(update)
        assert 0.0 <= spectrum.kept(rank) <= spectrum.kept(rank + 1) <= 1.0
        lost = float((spectrum.truncated(rank).dense() - update.dense()).square().sum())
        bound = 1e-6 * max(1.0, spectrum.energy)
        assert abs(lost - (1 - spectrum.kept(rank)) * spectrum.energy) <= bound


@given(st.lists(st.tuples(adapters(), weights), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_to_save_and_to_load_changes_nothing(parts: list[tuple[Adapter, float]]) -> None:
    total = weighted_sum([(updates_of(adapter), weight) for adapter, weight in parts])
    adapter = as_adapter(total, name="sum", base_name="some base", fingerprint=None)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(adapter, Path(folder))
        files = read_adapter(Path(folder))
    written = {name: parameter.detach().numpy() for name, parameter in adapter.parameters().items()}
    assert set(files.tensors) == set(written)
    assert all(np.array_equal(files.tensors[name], value) for name, value in written.items())
