"""Methods against mergekit's own functions on the same matrices, where mergekit is installed.

What is compared is what its code and the papers share: trimming, election, the keeping probabilities of DELLA, SLERP.
Its DARE and DELLA scale up by the ratio of L1 norms; ours by the probability, as the papers do.
"""

from __future__ import annotations

import pytest
import torch

from nomoat.stack.methods import Mix, elected, slerp
from nomoat.stack.sparsify import keep_probability, largest
from nomoat.stack.update import factored

sparsify = pytest.importorskip("mergekit.sparsify")
arithmetic = pytest.importorskip("mergekit.merge_methods.generalized_task_arithmetic")

MATRICES = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0))
WEIGHTS = (0.7, 1.2, -0.4)


def mix(weights: tuple[float, ...], *, normalize: bool = False) -> Mix:
    return Mix(weights, (1.0,) * len(weights), torch.Generator().manual_seed(0), normalize=normalize)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9, 1.0])
def test_trimming(density: float) -> None:
    for matrix in MATRICES:
        torch.testing.assert_close(largest(matrix, density), sparsify.magnitude(matrix, density))


@pytest.mark.parametrize("normalize", [True, False])
def test_election(normalize: bool) -> None:
    weights = torch.tensor(WEIGHTS)[:, None, None]
    weighted = MATRICES * weights
    mask = arithmetic.get_mask(weighted, method="sum")
    expected = (weighted * mask).sum(0)
    if normalize:
        divisor = (weights * mask).sum(0)
        expected = expected / torch.where(divisor == 0, torch.ones_like(divisor), divisor)
    torch.testing.assert_close(
        elected(list(MATRICES), mix(WEIGHTS, normalize=normalize)), expected, atol=1e-5, rtol=1e-5
    )


def test_the_share_of_draws_in_which_della_keeps_an_entry() -> None:
    torch.manual_seed(0)
    matrix = MATRICES[0]
    draws = torch.stack([sparsify.della_magprune(matrix, 0.5, 0.3) != 0 for _ in range(3000)])
    torch.testing.assert_close(keep_probability(matrix, 0.5, 0.3), draws.float().mean(0), atol=0.05, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp(share: float) -> None:
    reference = pytest.importorskip("mergekit.merge_methods.slerp")
    found = slerp([factored(MATRICES[0]), factored(MATRICES[1])], mix((1 - share, share)))
    expected = reference.slerp(torch.tensor([share]), MATRICES[:1], MATRICES[1:2])[0]  # one batch of one
    torch.testing.assert_close(found.dense(), expected, atol=1e-5, rtol=1e-5)
