from __future__ import annotations

import math

import pytest
import torch

from nomoat.stack.compress import spectrum_of, spectrum_of_matrix
from nomoat.stack.update import Update, factored


def update(rank: int = 5, out_dim: int = 40, in_dim: int = 30, seed: int = 0) -> Update:
    generator = torch.Generator().manual_seed(seed)
    return Update(torch.randn(rank, in_dim, generator=generator), torch.randn(out_dim, rank, generator=generator))


def test_at_full_rank_nothing_is_lost() -> None:
    spectrum = spectrum_of(update(5))
    torch.testing.assert_close(spectrum.truncated(5).dense(), update(5).dense(), atol=1e-5, rtol=1e-5)
    assert spectrum.kept(5) == pytest.approx(1.0, abs=1e-12)
    assert spectrum.energy == pytest.approx(float(update(5).dense().square().sum()), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_lower_rank_is_the_best_there_is_and_says_what_it_keeps(rank: int) -> None:
    full = update(6).lora_B.double() @ update(6).lora_A.double()
    u, s, vt = torch.linalg.svd(full)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    spectrum = spectrum_of(update(6))
    torch.testing.assert_close(spectrum.truncated(rank).dense().double(), best, atol=1e-5, rtol=1e-5)
    lost = float((full - best).square().sum() / full.square().sum())
    assert spectrum.kept(rank) == pytest.approx(1 - lost, abs=1e-9)


def test_factors_wider_than_the_matrix_are_fine() -> None:
    wide = update(rank=100, out_dim=12, in_dim=9)
    spectrum = spectrum_of(wide)
    assert len(spectrum.s) == 9
    torch.testing.assert_close(spectrum.truncated(9).dense(), wide.dense(), atol=1e-4, rtol=1e-4)


def test_a_matrix_without_factors_is_truncated_likewise_small_and_large() -> None:
    small = update(8).dense()
    spectrum = spectrum_of_matrix(small, 3, torch.Generator().manual_seed(0))
    assert spectrum.kept(3) == pytest.approx(spectrum_of(update(8)).kept(3), abs=1e-6)
    large = update(12, 600, 500)
    noisy = large.dense() + 0.5 * torch.randn(600, 500, generator=torch.Generator().manual_seed(1))
    found = spectrum_of_matrix(noisy, 20, torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(noisy.double())
    assert found.kept(20) == pytest.approx(float(exact[:20].square().sum() / exact.square().sum()), rel=2e-3)


def test_the_rank_for_a_share_of_the_energy_is_the_smallest_that_keeps_it() -> None:
    spectrum = spectrum_of(Update(torch.eye(4, 10), torch.eye(12, 4) * torch.tensor([8.0, 4.0, 2.0, 1.0])))
    assert [spectrum.rank_for(share) for share in (0.5, 64 / 85, 0.8, 0.99, 1.0)] == [1, 1, 2, 4, 4]


def test_the_effective_rank_counts_equal_directions_whole_and_weak_ones_in_part() -> None:
    equal = spectrum_of(factored(torch.eye(6, 9)))
    assert equal.effective_rank == pytest.approx(6.0)
    faint = spectrum_of(factored(torch.diag(torch.tensor([1.0, 1e-9]))))
    assert faint.effective_rank == pytest.approx(1.0, abs=1e-6)
    empty = spectrum_of(Update(torch.zeros(1, 3), torch.zeros(3, 1)))
    assert empty.effective_rank == 0.0 and empty.kept(1) == 1.0 and empty.rank_for(0.9) == 1
    assert not math.isnan(empty.truncated(1).dense().sum().item())
