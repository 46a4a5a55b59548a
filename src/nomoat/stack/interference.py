"""How much adapters are in each other's way, module by module, from their weights alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from nomoat.core.records import Progress
from nomoat.model.adapters import Adapter, adaptable
from nomoat.model.decoder import Decoder
from nomoat.stack.compress import spectrum_of
from nomoat.stack.update import Update, concatenated, update_of

_ROWS_AT_ONCE = 1024
_NULL = 1e-6  # share of the largest diagonal below which a factor's direction does not count


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two adapters at one module.

    ``reads`` and ``writes``: how far they listen to the same directions of the input and write to the same
    directions of the output: mean squared cosine of the principal angles between the factors' spans, 0 to 1.
    ``cosine``: of the two updates as vectors, with the signs of their weights. ``conflict``: of the magnitude that
    both want to move the same entries by, the share where they pull apart; 0.5 for updates that know nothing of
    each other.
    """

    module: str
    first: str
    second: str
    reads: float
    writes: float
    cosine: float
    conflict: float


@dataclasses.dataclass(frozen=True, slots=True)
class Sum:
    """The weighted sum at one module: its rank by count and by entropy, and the share of energy kept at each rank."""

    module: str
    rank: int
    effective_rank: float
    energy: float
    kept: dict[int, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Interference:
    """All pairs at all modules that they share, and all sums."""

    pairs: tuple[Pair, ...]
    sums: tuple[Sum, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "pairs": [dataclasses.asdict(pair) for pair in self.pairs],
            "sums": [{**dataclasses.asdict(each), "kept": list(each.kept.items())} for each in self.sums],
        }

    def kept(self, rank: int) -> float:
        """Share of all modules' energy together at one of the ranks that were measured."""
        energy = sum(each.energy for each in self.sums)
        held = sum(each.energy * each.kept.get(rank, 1.0) for each in self.sums)
        return held / energy if energy > 0 else 1.0


def interference(worn: Sequence[tuple[Adapter, float]], decoder: Decoder) -> Generator[Progress, None, Interference]:
    """Measure a stack. Yields progress."""
    weights = adaptable(decoder)
    modules = list(dict.fromkeys(module for adapter, _ in worn for module in adapter.deltas))
    pairs: list[Pair] = []
    sums: list[Sum] = []
    for done, module in enumerate(modules, start=1):
        with torch.no_grad():
            present = [
                (adapter.name, update_of(adapter, module, weights[module]).scaled(weight))
                for adapter, weight in worn
                if module in adapter.deltas
            ]
            pairs += [_pair(module, *first, *second) for first, second in itertools.combinations(present, 2)]
            sums.append(_sum(module, [update for _, update in present]))
        yield Progress("comparing", done, len(modules), "modules")
    return Interference(tuple(pairs), tuple(sums))


def _pair(module: str, first: str, one: Update, second: str, other: Update) -> Pair:
    norms = (one.energy * other.energy) ** 0.5
    return Pair(
        module,
        first,
        second,
        reads=overlap(one.lora_A.T, other.lora_A.T),
        writes=overlap(one.lora_B, other.lora_B),
        cosine=one.dot(other) / norms if norms > 0 else 0.0,
        conflict=conflict(one, other),
    )


def overlap(first: Tensor, second: Tensor) -> float:
    """Mean squared cosine of the principal angles between the spans of the columns of two matrices (n, r)."""
    one, other = _basis(first), _basis(second)
    smaller = min(one.shape[1], other.shape[1])
    return float((one.T @ other).square().sum() / smaller) if smaller else 0.0


def _basis(columns: Tensor) -> Tensor:
    u, s, _ = torch.linalg.svd(columns.double(), full_matrices=False)
    largest = float(s.max()) if len(s) else 0.0
    basis: Tensor = u[:, (s > _NULL * largest)]
    return basis


def conflict(one: Update, other: Update) -> float:
    """Share of the common magnitude, ``min(|x|, |y|)`` of each entry, where x and y have opposite signs."""
    common = apart = 0.0
    for start in range(0, one.shape[0], _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        x, y = one.lora_B[rows] @ one.lora_A, other.lora_B[rows] @ other.lora_A
        smaller = torch.minimum(x.abs(), y.abs())
        common += float(smaller.double().sum())
        apart += float(smaller[(x > 0) != (y > 0)].double().sum())
    return apart / common if common > 0 else 0.0


def _sum(module: str, updates: Sequence[Update]) -> Sum:
    total = concatenated(updates)
    spectrum = spectrum_of(total)
    ranks = [2**power for power in range(13) if 2**power < len(spectrum.s)] + [len(spectrum.s)]
    kept = {rank: spectrum.kept(rank) for rank in ranks}
    return Sum(module, len(spectrum.s), spectrum.effective_rank, spectrum.energy, kept)
