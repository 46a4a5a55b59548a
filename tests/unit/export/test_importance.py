"""The importance of a column is the mean square of what meets it, and weighing by it serves the user's own rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import strong_adapter
from nomoat.core.records import returned
from nomoat.export.gguf_model import Merge, write_model
from nomoat.export.importance import measure_importance, usable
from nomoat.export.logits import measure_damage
from nomoat.model.adapters import AdapterConfig
from nomoat.model.cache import Layout
from nomoat.model.load import Base, load_base
from nomoat.model.template import Encoded
from tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("importance"), "qwen2", merges=[("a", "b")])


def rows(seed: int, n: int = 5) -> list[Encoded]:
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(3, 60, (30 + i,), generator=generator).tolist() for i in range(n)]
    return [Encoded(each, [True] * len(each)) for each in ids]


def test_importance_is_the_mean_square_of_a_layer_s_input(base: Base) -> None:
    worn = ((strong_adapter(base, AdapterConfig(rank=2, alpha=4.0)), 1.0),)
    found = returned(measure_importance(base, worn, rows(0)))
    assert "lm_head" not in found and len(found) == 14
    seen: list[torch.Tensor] = []
    layer = base.decoder.layers[1].mlp.down_proj  # type: ignore[union-attr]
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[operator]
    with torch.no_grad():
        for row in rows(0):
            base.decoder(torch.tensor(row.ids), Layout([len(row.ids)]), worn)
    hook.remove()
    expected = torch.cat(seen).square().mean(0).numpy()
    np.testing.assert_allclose(found["model.layers.1.mlp.down_proj"], expected, rtol=1e-4)


def test_no_column_counts_for_nothing() -> None:
    assert (usable(np.zeros(4, np.float32)) > 0).all()
    lifted = usable(np.array([0, 1, 2], np.float32))
    assert 0 < lifted[0] < 0.01 and lifted[1:].tolist() == [1, 2]


def test_weighing_by_the_rows_harms_them_less(base: Base, tmp_path: Path) -> None:
    importance = returned(measure_importance(base, (), rows(0, 20)))
    damage = []
    for weighed in ({}, importance):
        list(write_model(tmp_path / "q.gguf", Merge(base, (), "Q4_0", weighed)))
        again = load_base(tmp_path / "q.gguf")
        ids = [row.ids for row in rows(1, 20)]
        damage.append(returned(measure_damage((base, ()), (again, ()), ids)).kl)
    assert damage[1] < 0.9 * damage[0]
