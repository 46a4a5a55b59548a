"""The weights of a stack as fine as is asked: before each adapter, or before each of its layers, modules or directions.

Layer by layer: AdaMerging, Yang et al. 2023 (arXiv 2310.02575), section 3.2; on adapters: LoRA Soups, Prabhakar et al.
2024 (arXiv 2410.13025), section 3. A direction is a singular direction of one module's update. The finest grain is a
core, a small matrix between all A and all B of a module (LoRA-XS, Balazy et al. 2024, arXiv 2405.17604, section 3),
whose diagonal are the weights of the directions. Whatever the grain, only the factors B change, so the sum stays an
exact sum of low-rank updates of the same ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nomoat.engine.names import Worn
from nomoat.model.adapters import Adapter, layer_of
from nomoat.model.delta import Delta, Stack
from nomoat.stack.algebra import as_adapter
from nomoat.stack.compress import spectrum_of
from nomoat.stack.options import CORE
from nomoat.stack.update import Update, Updates, concatenated, updates_of

Shares = Sequence[Mapping[str, float]]  # for each adapter, by module: the share of its update that is taken


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """One module: the factors of the adapters that stand on it side by side, R columns in all, and their coefficients.

    ``owners``: the places of these adapters in the stack, with their ranks. ``numbers``: of the coefficient before each
    column of B (R,), or of those of a core (R, R). ``biases`` (out, n) and the numbers of their coefficients (n,).
    """

    whole: Update
    owners: tuple[tuple[int, int], ...]
    numbers: Tensor
    biases: tuple[Tensor, Tensor] | None

    def factor(self, values: Tensor) -> Tensor:
        """B under coefficients (count,): (out, R)."""
        if self.numbers.ndim == 1:
            return self.whole.lora_B * values[self.numbers]
        return self.whole.lora_B @ values[self.numbers]

    def bias(self, values: Tensor) -> Tensor | None:
        """The sum of the biases under coefficients (count,): (out,)."""
        return None if self.biases is None else self.biases[0] @ values[self.biases[1]]


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """A stack's updates by module, each adapter's at weight 1, and how many coefficients stand before them."""

    grain: str
    adapters: tuple[Adapter, ...]
    updates: tuple[Updates, ...]
    sites: Mapping[str, Site]
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Coefficients:
    """What was found, for people and records: by adapter its share of the whole, and the share of each module."""

    grain: str
    weights: dict[str, float]
    shares: dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Sum:
    """A stack as one adapter, for as long as its coefficients are learned."""

    deltas: Mapping[str, Delta]


class _Numbers:
    """Gives each coefficient its number, the same to the same key."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}
        self.count = 0

    def of(self, *key: object) -> int:
        """The number of a key."""
        if key not in self._known:
            self._known[key] = self.count
            self.count += 1
        return self._known[key]

    def square(self, side: int) -> Tensor:
        """New numbers (side, side)."""
        self.count += side * side
        return torch.arange(self.count - side * side, self.count).view(side, side)


def grid_of(adapters: Sequence[Adapter], grain: str) -> Grid:
    """The grid of ``grain``, one of ``options.GRAINS``. Raises ``UsageError`` for a DoRA, which is not its factors."""
    updates = tuple(_updates(adapter, grain) for adapter in adapters)
    numbers = _Numbers()
    modules = dict.fromkeys(module for own in updates for module in own)
    sites = {module: _site(module, updates, grain, numbers) for module in modules}
    return Grid(grain, tuple(adapters), updates, sites, numbers.count)


def _site(module: str, updates: Sequence[Updates], grain: str, numbers: _Numbers) -> Site:
    places = [place for place, own in enumerate(updates) if module in own]
    parts = [updates[place][module] for place in places]
    group = _GROUPS[grain]
    if grain == CORE:
        at = numbers.square(sum(part.rank for part in parts))
    else:
        columns = [(place, column) for place, part in zip(places, parts) for column in range(part.rank)]
        at = torch.tensor([numbers.of(place, group(module, column)) for place, column in columns]).long()
    biased = [(part.bias, numbers.of(place, group(module, -1)))
              for place, part in zip(places, parts) if part.bias is not None]  # fmt: skip
    return Site(
        whole=concatenated([dataclasses.replace(part, bias=None) for part in parts]),
        owners=tuple((place, part.rank) for place, part in zip(places, parts)),
        numbers=at,
        biases=(torch.stack([bias for bias, _ in biased], 1), torch.tensor([n for _, n in biased])) if biased else None,
    )


_GROUPS: dict[str, Callable[[str, int], object]] = {
    "adapter": lambda module, column: "",
    "layer": lambda module, column: module if layer_of(module) is None else layer_of(module),
    "module": lambda module, column: module,
    "direction": lambda module, column: (module, column),
    CORE: lambda module, column: (module, column),
}


def _updates(adapter: Adapter, grain: str) -> Updates:
    """The adapter's updates; by directions, in their singular directions."""
    found = updates_of(adapter)
    if grain not in ("direction", CORE):
        return found
    return {
        module: dataclasses.replace(spectrum_of(update).truncated(update.rank), bias=update.bias)
        for module, update in found.items()
    }


def from_shares(grid: Grid, shares: Shares) -> Tensor:
    """Coefficients (count,) under which every column takes its module's share: where a finer search begins."""
    values = torch.zeros(grid.count)
    for module, site in grid.sites.items():
        own = torch.tensor([shares[place][module] for place, rank in site.owners for _ in range(rank)])
        values[site.numbers if site.numbers.ndim == 1 else site.numbers.diagonal()] = own
        if site.biases is not None:
            owners = [place for place, _ in site.owners if grid.updates[place][module].bias is not None]
            values[site.biases[1]] = torch.tensor([shares[place][module] for place in owners])
    return values


def in_words(grain: str) -> str:
    """What a stack with weights of that grain has."""
    return "a core at each module" if grain == CORE else f"one weight for each {grain}"


def alike(adapters: Sequence[Adapter], weights: Sequence[float]) -> Shares:
    """One share for all of an adapter."""
    return [dict.fromkeys(adapter.deltas, weight) for adapter, weight in zip(adapters, weights)]


@torch.no_grad()
def weighted_updates(grid: Grid, values: Tensor) -> tuple[Updates, ...]:
    """Each adapter's updates with their coefficients (count,) inside."""
    found: tuple[Updates, ...] = tuple({} for _ in grid.adapters)
    for module, site in grid.sites.items():
        ranks = [rank for _, rank in site.owners]
        for (place, _), b in zip(site.owners, torch.split(site.factor(values), ranks, dim=1)):
            found[place][module] = Update(grid.updates[place][module].lora_A, b.contiguous())
        if site.biases is not None:
            owners = [place for place, _ in site.owners if grid.updates[place][module].bias is not None]
            for place, bias in zip(owners, (site.biases[0] * values[site.biases[1]]).unbind(1)):
                found[place][module] = dataclasses.replace(found[place][module], bias=bias)
    return found


@torch.no_grad()
def shares_of(grid: Grid, values: Tensor) -> list[dict[str, float]]:
    """The multiple of each module's update that comes nearest to what the coefficients (count,) make of it."""
    return [
        {module: own[module].dot(update) / update.energy if update.energy > 0 else 0.0
         for module, update in updates.items()}
        for updates, own in zip(grid.updates, weighted_updates(grid, values))
    ]  # fmt: skip


def found_coefficients(grid: Grid, values: Tensor) -> Coefficients:
    """The coefficients (count,) by name; an adapter's weight is the mean of its modules' by their energies."""
    names, shares = [adapter.name for adapter in grid.adapters], shares_of(grid, values)
    weights = {}
    for name, updates, own in zip(names, grid.updates, shares):
        energies = {module: update.energy for module, update in updates.items()}
        total = sum(energies.values())
        weights[name] = sum(own[module] * each for module, each in energies.items()) / total if total > 0 else 0.0
    return Coefficients(grid.grain, weights, dict(zip(names, shares)))


def weighted(grid: Grid, values: Tensor) -> Worn:
    """The adapters with their coefficients (count,) inside, each to be worn at weight 1."""
    return tuple(
        (as_adapter(own, name=each.name, base_name=each.base_name, fingerprint=each.base_fingerprint), 1.0)
        for each, own in zip(grid.adapters, weighted_updates(grid, values))
    )


def learnable(grid: Grid, values: Tensor) -> Stack:
    """The whole sum as one adapter under coefficients (count,), through which gradients flow to them."""
    deltas = {}
    for module, site in grid.sites.items():
        # Not a leaf, so that the gradient goes on to the coefficients; a forward pass asks no more of it.
        b = cast(nn.Parameter, site.factor(values))
        a = nn.Parameter(site.whole.lora_A, requires_grad=False)
        deltas[module] = Delta(a, b, 1.0, bias=site.bias(values))
    return ((Sum(deltas), 1.0),)
