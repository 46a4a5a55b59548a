"""Ways to make one update of several, each a pure function with its paper.

A method sees one module: what every adapter adds to it (nothing, as an update of rank 0, where an adapter leaves the
module alone) and the ``Mix``. Methods on factors give exact results whose rank is the sum of the ranks; methods on
entries must look at the (out, in) matrix, and their result has to be compressed to a rank to be an adapter again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.stack.sparsify import at_random, by_rank, largest
from nomoat.stack.update import Update, concatenated

_PARALLEL = 0.9995  # cosine from which a great circle is as good as a straight line, and safer to compute
_NOTHING = 1e-6  # share of the largest singular value below which a direction is rounding


@dataclasses.dataclass(frozen=True, slots=True)
class Mix:
    """What a method is told besides the updates: one weight and one density for each of them.

    ``normalize`` divides by the weights that took part; ``scale`` multiplies the result (lambda in the papers).
    """

    weights: tuple[float, ...]
    densities: tuple[float, ...]
    generator: torch.Generator
    epsilon: float = 0.1
    normalize: bool = False
    scale: float = 1.0


# -- on factors: exact, ranks add up


def concat(updates: Sequence[Update], mix: Mix) -> Update:
    """The weighted sum. What serving the stack computes, as one adapter."""
    return concatenated([update.scaled(weight) for update, weight in zip(updates, mix.weights)]).scaled(mix.scale)


def linear(updates: Sequence[Update], mix: Mix) -> Update:
    """The weighted mean. Model soups: Wortsman et al. 2022 (arXiv 2203.05482)."""
    total = sum(mix.weights)
    if abs(total) < 1e-8:
        raise UsageError("the weights of a mean add up to 0", hint="--method concat adds without dividing")
    return concat(updates, dataclasses.replace(mix, scale=mix.scale / total))


def task_arithmetic(updates: Sequence[Update], mix: Mix) -> Update:
    """The weighted sum, scaled. Task vectors: Ilharco et al. 2022 (arXiv 2212.04089)."""
    return concat(updates, mix)


def slerp(updates: Sequence[Update], mix: Mix) -> Update:
    """Two updates along the great circle between them, at the second one's share of the weights.

    Shoemake 1985, on the updates as vectors: the angle comes from their inner product, which the factors give.
    """
    if len(updates) != 2:
        raise UsageError(
            f"slerp lies between two adapters, not {len(updates)}", hint="--method linear takes any number"
        )
    total = sum(mix.weights)
    if min(mix.weights) < 0 or total == 0:
        raise UsageError("slerp needs weights of 0 or more, not all 0")
    share = mix.weights[1] / total
    first, second = updates
    norms = math.sqrt(first.energy * second.energy)
    cosine = first.dot(second) / norms if norms > 0 else 1.0
    coefficients = (1 - share, share)
    if abs(cosine) < _PARALLEL:
        angle = math.acos(cosine)
        coefficients = (math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle))
    return concat(updates, dataclasses.replace(mix, weights=coefficients))


def knots_ties(updates: Sequence[Update], mix: Mix) -> Update:
    """TIES in the space that all updates share.

    KnOTS, Stoica et al. 2024 (arXiv 2410.19735), section 4: the updates side by side, (out, n * in), are U S V.T; each
    adapter's own block of S V.T is merged, then U put back in front. U has as many columns as the ranks add up to, so
    nothing larger than the factors is formed, and the result is as low in rank.
    """
    if sum(update.rank for update in updates) == 0:
        return concatenated(updates)
    basis, triangle = torch.linalg.qr(torch.cat([update.lora_B for update in updates], dim=1).double())
    parts = triangle.split([update.rank for update in updates], dim=1)
    rows = torch.cat([part @ update.lora_A.double() for part, update in zip(parts, updates)], dim=1)  # (k, n * in)
    u, s, vt = torch.linalg.svd(rows, full_matrices=False)
    held = s > s[0] * _NOTHING if len(s) else s > 0
    blocks = (s[held, None] * vt[held]).float().split(updates[0].shape[1], dim=1)
    return Update(ties(blocks, mix), (basis @ u[:, held]).float(), mixed_bias(updates, ties, mix))


# -- on entries: full matrices


def ties(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Trim to the largest entries, elect each entry's sign, and take the (mean of the) entries that have it.

    Yadav et al. 2023 (arXiv 2306.01708), section 4.2.
    """
    return elected([largest(matrix, density) for matrix, density in zip(matrices, mix.densities)], mix)


def dare(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Drop entries at random, scale up the rest, add. Yu et al. 2023 (arXiv 2311.03099)."""
    return added(_thinned(matrices, mix), mix)


def dare_ties(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Drop entries at random, scale up the rest, elect signs. Yu et al. 2023, section 3.3."""
    return elected(_thinned(matrices, mix), mix)


def della(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Drop small entries more often than large ones, scale up the rest, elect signs.

    Deep et al. 2024 (arXiv 2406.11617), section 3.
    """
    return elected(_thinned_by_rank(matrices, mix), mix)


def della_linear(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """DELLA's dropping without the election."""
    return added(_thinned_by_rank(matrices, mix), mix)


def magnitude_prune(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Keep the largest entries of each and add. Han et al. 2015 (arXiv 1506.02626), on updates."""
    return added([largest(matrix, density) for matrix, density in zip(matrices, mix.densities)], mix)


def _thinned(matrices: Sequence[Tensor], mix: Mix) -> list[Tensor]:
    return [at_random(matrix, density, mix.generator) for matrix, density in zip(matrices, mix.densities)]


def _thinned_by_rank(matrices: Sequence[Tensor], mix: Mix) -> list[Tensor]:
    pairs = zip(matrices, mix.densities)
    return [by_rank(matrix, density, mix.epsilon, mix.generator) for matrix, density in pairs]


def added(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Weighted sum; divided by all weights if ``normalize``."""
    total = sum(mix.weights)
    divisor = total if mix.normalize and abs(total) > 1e-8 else 1.0
    mixed = torch.zeros_like(matrices[0])
    for matrix, weight in zip(matrices, mix.weights):
        mixed.add_(matrix, alpha=weight * mix.scale / divisor)
    return mixed


def elected(matrices: Sequence[Tensor], mix: Mix) -> Tensor:
    """Of each entry, the sum of the weighted values whose sign is that of the sum of all of them.

    With ``normalize`` the mean: divided by the weights of those that took part. A tie is positive, zeros take no part.
    """
    weighted = [matrix * weight for matrix, weight in zip(matrices, mix.weights)]
    positive = sum(weighted[1:], start=weighted[0]) >= 0
    mixed, took_part = torch.zeros_like(matrices[0]), torch.zeros_like(matrices[0])
    for matrix, weight in zip(weighted, mix.weights):
        agrees = torch.where(positive, matrix > 0, matrix < 0)
        mixed += matrix * agrees
        took_part += weight * agrees
    if mix.normalize:
        mixed /= torch.where(took_part == 0, torch.ones_like(took_part), took_part)
    return mixed * mix.scale


def mixed_bias(updates: Sequence[Update], method: OnEntries, mix: Mix) -> Tensor | None:
    """The updates' biases, each as a column, by a method on entries. (out,), or ``None`` where no update has one."""
    if all(update.bias is None for update in updates):
        return None
    columns = [torch.zeros(each.shape[0], 1) if each.bias is None else each.bias[:, None] for each in updates]
    return method(columns, mix)[:, 0]


OnFactors = Callable[[Sequence[Update], Mix], Update]
OnEntries = Callable[[Sequence[Tensor], Mix], Tensor]

ON_FACTORS: dict[str, OnFactors] = {
    "concat": concat,
    "linear": linear,
    "task_arithmetic": task_arithmetic,
    "slerp": slerp,
    "knots_ties": knots_ties,
}
ON_ENTRIES: dict[str, OnEntries] = {
    "ties": ties,
    "dare": dare,
    "dare_ties": dare_ties,
    "della": della,
    "della_linear": della_linear,
    "magnitude_prune": magnitude_prune,
}
