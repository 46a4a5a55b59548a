from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters import random_adapter
from nomoat.core.records import returned
from nomoat.model.load import Base
from nomoat.stack.heat import draw_heat, layer_of
from nomoat.stack.interference import Interference, conflict, interference, overlap
from nomoat.stack.update import Update
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("interference") / "base")


def found(base: Base, *worn: tuple[int, float], same: bool = False) -> Interference:
    seeds = [0 if same else seed for seed, _ in worn]
    adapters = [random_adapter(base, f"a{place}", seed, rank=3) for place, seed in enumerate(seeds)]
    stack = [(adapter, weight) for adapter, (_, weight) in zip(adapters, worn)]
    return returned(interference(stack, base.decoder))


def test_the_same_span_overlaps_wholly_and_an_orthogonal_one_not_at_all() -> None:
    eye = torch.eye(8)
    assert overlap(eye[:, :3], eye[:, :3] @ torch.randn(3, 3)) == pytest.approx(1.0)
    assert overlap(eye[:, :3], eye[:, 3:6]) == pytest.approx(0.0, abs=1e-12)
    assert overlap(eye[:, :2], eye[:, 1:3]) == pytest.approx(0.5)
    assert overlap(eye[:, :2], torch.zeros(8, 2)) == 0.0


def test_conflict_is_the_share_of_common_magnitude_with_opposite_signs() -> None:
    x = Update(torch.eye(2), torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
    y = Update(torch.eye(2), torch.tensor([[2.0, 1.0], [1.0, -4.0]]))
    assert conflict(x, y) == pytest.approx((1.0 + 0.5) / (1.0 + 1.0 + 1.0 + 0.5))
    assert conflict(x, x) == 0.0 and conflict(x, x.scaled(-1.0)) == 1.0


def test_an_adapter_and_its_opposite_are_as_much_in_the_way_as_can_be(base: Base) -> None:
    result = found(base, (0, 1.0), (0, -1.0), same=True)
    assert {pair.module for pair in result.pairs} == {each.module for each in result.sums}
    for pair in result.pairs:
        assert pair.reads == pytest.approx(1.0) and pair.writes == pytest.approx(1.0)
        assert pair.cosine == pytest.approx(-1.0) and pair.conflict == 1.0


def test_unrelated_adapters_pull_apart_on_half_of_what_they_share(base: Base) -> None:
    result = found(base, (1, 1.0), (2, 1.0))
    mean = sum(pair.conflict for pair in result.pairs) / len(result.pairs)
    assert 0.4 < mean < 0.6
    assert all(abs(pair.cosine) < 0.5 for pair in result.pairs)


def test_the_sum_says_its_rank_and_what_each_lower_rank_keeps(base: Base) -> None:
    result = found(base, (1, 1.0), (2, 1.0))
    for each in result.sums:
        assert each.rank == 6 and 1.0 < each.effective_rank <= 6.0
        assert list(each.kept) == [1, 2, 4, 6]
        assert sorted(each.kept.values()) == list(each.kept.values()) and each.kept[6] == pytest.approx(1.0)
    assert result.kept(1) < result.kept(4) < result.kept(6)


def test_the_picture_is_a_png_and_layers_are_read_from_names(base: Base, tmp_path: Path) -> None:
    draw_heat(found(base, (1, 1.0), (2, 1.0)), tmp_path / "heat.png")
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    assert layer_of("model.layers.12.mlp.up_proj") == 12 and layer_of("lm_head") == 0
