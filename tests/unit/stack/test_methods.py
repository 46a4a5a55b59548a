"""Each method against its paper's formula, computed entry by entry in numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from nomoat.core.errors import UsageError
from nomoat.stack.methods import (
    ON_ENTRIES,
    ON_FACTORS,
    Mix,
    concat,
    dare,
    dare_ties,
    della,
    knots_ties,
    linear,
    magnitude_prune,
    slerp,
    ties,
)
from nomoat.stack.options import METHODS
from nomoat.stack.sparsify import at_random, by_rank, keep_probability, largest
from nomoat.stack.update import Update, concatenated, nothing

WEIGHTS = (0.7, 1.2, -0.4)


def updates(count: int = 3, out_dim: int = 9, in_dim: int = 7) -> list[Update]:
    generator = torch.Generator().manual_seed(count)
    return [
        Update(torch.randn(rank, in_dim, generator=generator), torch.randn(out_dim, rank, generator=generator))
        for rank in range(2, 2 + count)
    ]


def mix(weights: tuple[float, ...] = WEIGHTS, density: float = 0.5, **changes: object) -> Mix:
    generator = torch.Generator().manual_seed(0)
    return Mix(weights, (density,) * len(weights), generator, **changes)  # type: ignore[arg-type]


def dense(parts: list[Update]) -> list[torch.Tensor]:
    return [part.dense() for part in parts]


def trimmed(matrix: np.ndarray, density: float) -> np.ndarray:
    """Entry by entry: keep it if fewer than ``k`` others are larger."""
    k = max(1, int(density * matrix.size))
    bound = np.sort(np.abs(matrix).ravel())[-k]
    return np.where(np.abs(matrix) >= bound, matrix, 0.0)


def elected(matrices: list[np.ndarray], weights: tuple[float, ...], *, mean: bool) -> np.ndarray:
    """Yadav et al. 2023, section 4.2, with weights, by loops."""
    result = np.zeros_like(matrices[0])
    for place in itertools.product(*map(range, result.shape)):
        values = [weight * matrix[place] for weight, matrix in zip(weights, matrices)]
        sign = 1.0 if sum(values) >= 0 else -1.0
        chosen = [(value, weight) for value, weight in zip(values, weights) if value * sign > 0]
        divisor = sum(weight for _, weight in chosen) if mean else 1.0
        result[place] = sum(value for value, _ in chosen) / (divisor or 1.0)
    return result


def test_concat_is_the_weighted_sum_and_linear_the_weighted_mean() -> None:
    total = sum(weight * matrix for weight, matrix in zip(WEIGHTS, dense(updates())))
    torch.testing.assert_close(concat(updates(), mix()).dense(), total)
    torch.testing.assert_close(linear(updates(), mix()).dense(), total / sum(WEIGHTS))
    torch.testing.assert_close(concat(updates(), mix(scale=0.5)).dense(), 0.5 * total)
    assert concat(updates(), mix()).rank == 2 + 3 + 4


def test_a_mean_over_weights_that_cancel_is_refused() -> None:
    with pytest.raises(UsageError, match="add up to 0"):
        linear(updates(2), mix((1.0, -1.0)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp_follows_the_great_circle_between_the_updates(share: float) -> None:
    first, second = (matrix.double().flatten() for matrix in dense(updates(2)))
    angle = math.acos(float(first @ second / (first.norm() * second.norm())))
    expected = (math.sin((1 - share) * angle) * first + math.sin(share * angle) * second) / math.sin(angle)
    found = slerp(updates(2), mix((1 - share, share))).dense().flatten().double()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_slerp_between_parallel_updates_is_a_straight_line_and_takes_two_only() -> None:
    one = updates(1)[0]
    torch.testing.assert_close(slerp([one, one.scaled(3.0)], mix((1.0, 1.0))).dense(), one.scaled(2.0).dense())
    with pytest.raises(UsageError, match="between two"):
        slerp(updates(3), mix())


@pytest.mark.parametrize("mean", [True, False])
def test_ties_trims_elects_and_merges_what_agrees(mean: bool) -> None:
    matrices = [matrix.double().numpy() for matrix in dense(updates())]
    weights = (0.7, 1.2, 0.4)
    expected = elected([trimmed(matrix, 0.5) for matrix in matrices], weights, mean=mean)
    found = ties(dense(updates()), mix(weights, normalize=mean)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_magnitude_prune_adds_the_largest_entries() -> None:
    matrices = [trimmed(matrix.numpy(), 0.3) for matrix in dense(updates())]
    expected = sum(weight * matrix for weight, matrix in zip(WEIGHTS, matrices))
    np.testing.assert_allclose(
        magnitude_prune(dense(updates()), mix(density=0.3)).numpy(), expected, atol=1e-6, rtol=1e-6
    )


def test_the_largest_entries_are_kept_as_they_are() -> None:
    matrix = torch.tensor([[1.0, -5.0, 2.0], [0.5, 4.0, -3.0]])
    assert torch.equal(largest(matrix, 0.5), torch.tensor([[0.0, -5.0, 0.0], [0.0, 4.0, -3.0]]))
    assert torch.equal(largest(matrix, 0.01), torch.tensor([[0.0, -5.0, 0.0], [0.0, 0.0, 0.0]]))
    assert torch.equal(largest(matrix, 1.0), matrix)


def test_what_is_dropped_at_random_is_made_up_for_on_average() -> None:
    matrix = torch.randn(30, 40, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    draws = torch.stack([at_random(matrix, 0.3, generator) for _ in range(2000)])
    assert float((draws[0] == 0).float().mean()) == pytest.approx(0.7, abs=0.05)
    assert torch.equal(draws[0][draws[0] != 0], (matrix / 0.3)[draws[0] != 0])
    torch.testing.assert_close(draws.mean(0), matrix, atol=0.35, rtol=0.2)


def test_della_keeps_larger_entries_more_often_and_makes_up_for_each() -> None:
    matrix = torch.tensor([[0.1, -3.0, 2.0, -0.5, 1.0]])
    probability = keep_probability(matrix, 0.5, 0.2)
    torch.testing.assert_close(probability, torch.tensor([[0.3, 0.7, 0.6, 0.4, 0.5]]))
    generator = torch.Generator().manual_seed(3)
    draws = torch.stack([by_rank(matrix, 0.5, 0.2, generator) for _ in range(4000)])
    torch.testing.assert_close((draws != 0).float().mean(0), probability, atol=0.04, rtol=0)
    torch.testing.assert_close(draws.mean(0), matrix, atol=0.15, rtol=0)
    with pytest.raises(UsageError, match="outside of 0 to 1"):
        by_rank(matrix, 0.9, 0.2, generator)


def test_dare_and_della_elect_signs_over_what_is_left() -> None:
    parts = dense(updates())
    for method, thin in (
        (dare_ties, lambda m, g: at_random(m, 0.5, g)),
        (della, lambda m, g: by_rank(m, 0.5, 0.1, g)),
    ):
        generator = torch.Generator().manual_seed(0)
        thinned = [thin(part, generator).double().numpy() for part in parts]
        expected = elected(thinned, WEIGHTS, mean=False)
        np.testing.assert_allclose(method(parts, mix()).numpy(), expected, atol=1e-5, rtol=1e-5)


def test_what_is_drawn_depends_on_the_generator_alone() -> None:
    parts = dense(updates())
    assert torch.equal(dare(parts, mix()), dare(parts, mix()))


def test_knots_merges_in_the_shared_space_that_a_full_decomposition_gives() -> None:
    parts = updates(2)
    weights, density = (1.0, 0.5), 0.6
    side_by_side = torch.cat(dense(parts), dim=1).double()
    u, s, vt = torch.linalg.svd(side_by_side, full_matrices=False)
    held = s > 1e-5
    blocks = ((s[held, None] * vt[held]).split(7, dim=1)[i].numpy() for i in range(2))
    merged = elected([trimmed(block, density) for block in blocks], weights, mean=True)
    expected = u[:, held].numpy() @ merged
    found = knots_ties(parts, mix(weights, density, normalize=True))
    assert found.rank == 5
    np.testing.assert_allclose(found.dense().numpy(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_adapter_at_weight_1_with_nothing_left_out_is_itself(method: str) -> None:
    one = updates(1)[0]
    several = [one, nothing(*one.shape)] if method == "slerp" else [one]
    settings = mix((1.0, 0.0)[: len(several)], density=1.0, normalize=True)
    if method in ON_FACTORS:
        found = ON_FACTORS[method](several, settings).dense()
    else:
        found = ON_ENTRIES[method]([each.dense() for each in several], settings)
    torch.testing.assert_close(found, one.dense(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_that_leaves_the_module_alone_adds_nothing(method: str) -> None:
    one = updates(1)[0]
    several = [one, nothing(*one.shape)]
    settings = mix((1.0, 1.0), density=1.0)
    if method in ON_FACTORS:
        found = ON_FACTORS[method](several, settings).dense()
    else:
        found = ON_ENTRIES[method]([each.dense() for each in several], settings)
    half = {"linear": 0.5, "slerp": 0.5}.get(method, 1.0)
    torch.testing.assert_close(found, half * one.dense(), atol=1e-5, rtol=1e-5)
    assert concatenated(several).rank == one.rank


def test_every_method_that_can_be_asked_for_exists() -> None:
    assert (*ON_FACTORS, *ON_ENTRIES) == METHODS
