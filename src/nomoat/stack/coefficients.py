"""The weights of a stack as fine as is asked: before each adapter, or before each of its layers, modules or directions.

Layer by layer: AdaMerging, Yang et al. 2023 (arXiv 2310.02575), section 3.2; on adapters: LoRA Soups, Prabhakar et al.
2024 (arXiv 2410.13025), section 3. A direction is a singular direction of one module's update. Whatever the grain, a
coefficient scales columns of B, so the sum stays an exact sum of low-rank updates.
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
from nomoat.stack.update import Update, Updates, concatenated, updates_of

Shares = Sequence[Mapping[str, float]]  # for each adapter, by module: the share of its update that is taken


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """A stack's updates, and which coefficient stands before each of their columns.

    ``columns``: for each adapter, by module, the numbers of the coefficients of B's columns (R,); ``biases`` the number
    of its bias's. The adapters' own weights are in no update.
    """

    adapters: tuple[Adapter, ...]
    updates: tuple[Updates, ...]
    columns: tuple[Mapping[str, Tensor], ...]
    biases: tuple[Mapping[str, int], ...]
    count: int

    @property
    def modules(self) -> list[str]:
        """Every module that an adapter stands on."""
        return list(dict.fromkeys(module for updates in self.updates for module in updates))


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


def grid_of(adapters: Sequence[Adapter], grain: str) -> Grid:
    """The grid of ``grain``, one of ``options.GRAINS``. Raises ``UsageError`` for a DoRA, which is not its factors."""
    updates = tuple(_updates(adapter, grain) for adapter in adapters)
    numbers: dict[tuple[object, ...], int] = {}

    def number(*key: object) -> int:
        return numbers.setdefault(key, len(numbers))

    group = _GROUPS[grain]
    columns, biases = [], []
    for place, own in enumerate(updates):
        at = {
            module: torch.tensor([number(place, group(module, column)) for column in range(update.rank)]).long()
            for module, update in own.items()
        }
        columns.append(at)
        biases.append({m: number(place, group(m, -1)) for m, update in own.items() if update.bias is not None})
    return Grid(tuple(adapters), updates, tuple(columns), tuple(biases), len(numbers))


_GROUPS: dict[str, Callable[[str, int], object]] = {
    "adapter": lambda module, column: "",
    "layer": lambda module, column: module if layer_of(module) is None else layer_of(module),
    "module": lambda module, column: module,
    "direction": lambda module, column: (module, column),
}


def _updates(adapter: Adapter, grain: str) -> Updates:
    """The adapter's updates; by directions, in their singular directions."""
    found = updates_of(adapter)
    if grain != "direction":
        return found
    return {
        module: dataclasses.replace(spectrum_of(update).truncated(update.rank), bias=update.bias)
        for module, update in found.items()
    }


def from_shares(grid: Grid, shares: Shares) -> Tensor:
    """Coefficients (count,) under which every column takes its module's share: where a finer search begins."""
    values = torch.zeros(grid.count)
    for columns, biases, own in zip(grid.columns, grid.biases, shares):
        for module, numbers in columns.items():
            values[numbers] = own[module]
            if module in biases:
                values[biases[module]] = own[module]
    return values


def alike(adapters: Sequence[Adapter], weights: Sequence[float]) -> Shares:
    """One share for all of an adapter."""
    return [dict.fromkeys(adapter.deltas, weight) for adapter, weight in zip(adapters, weights)]


@torch.no_grad()
def shares_of(grid: Grid, values: Tensor) -> list[dict[str, float]]:
    """The multiple of each module's update that comes nearest to what the coefficients (count,) make of it."""
    found = []
    for updates, columns in zip(grid.updates, grid.columns):
        own = {}
        for module, update in updates.items():
            scaled = Update(update.lora_A, update.lora_B * values[columns[module]])
            own[module] = scaled.dot(update) / update.energy if update.energy > 0 else 0.0
        found.append(own)
    return found


def found_coefficients(grid: Grid, values: Tensor, grain: str) -> Coefficients:
    """The coefficients (count,) by name; an adapter's weight is the mean of its modules' by their energies."""
    names, shares = [adapter.name for adapter in grid.adapters], shares_of(grid, values)
    weights = {}
    for name, updates, own in zip(names, grid.updates, shares):
        energies = {module: update.energy for module, update in updates.items()}
        total = sum(energies.values())
        weights[name] = sum(own[module] * each for module, each in energies.items()) / total if total > 0 else 0.0
    return Coefficients(grain, weights, dict(zip(names, shares)))


@torch.no_grad()
def weighted(grid: Grid, values: Tensor) -> Worn:
    """The adapters with their coefficients (count,) inside, each to be worn at weight 1."""
    worn = []
    for adapter, updates, columns, biases in zip(grid.adapters, grid.updates, grid.columns, grid.biases):
        own = {
            module: Update(
                update.lora_A,
                update.lora_B * values[columns[module]],
                None if update.bias is None else update.bias * values[biases[module]],
            )
            for module, update in updates.items()
        }
        made = as_adapter(own, name=adapter.name, base_name=adapter.base_name, fingerprint=adapter.base_fingerprint)
        worn.append((made, 1.0))
    return tuple(worn)


class LearnableSum:
    """The sum of a grid's updates as a function of its coefficients, through which gradients flow."""

    def __init__(self, grid: Grid) -> None:
        self._sums, self._columns = dict[str, Update](), dict[str, Tensor]()
        self._biases: dict[str, tuple[Tensor, Tensor]] = {}  # (out, n), and the numbers of its columns' coefficients
        for module in grid.modules:
            places = [place for place, updates in enumerate(grid.updates) if module in updates]
            parts = [grid.updates[place][module] for place in places]
            self._sums[module] = concatenated([dataclasses.replace(part, bias=None) for part in parts])
            self._columns[module] = torch.cat([grid.columns[place][module] for place in places])
            own = [
                (part.bias, grid.biases[place][module]) for place, part in zip(places, parts) if part.bias is not None
            ]
            if own:
                self._biases[module] = torch.stack([bias for bias, _ in own], 1), torch.tensor([at for _, at in own])

    def at(self, values: Tensor) -> Stack:
        """The stack that wears the sum under coefficients (count,)."""
        deltas = {}
        for module, update in self._sums.items():
            # Not a leaf, so that the gradient goes on to the coefficients; a forward pass asks no more of it.
            b = cast(nn.Parameter, update.lora_B * values[self._columns[module]])
            bias = self._biases.get(module)
            deltas[module] = Delta(
                nn.Parameter(update.lora_A, requires_grad=False),
                b,
                1.0,
                bias=None if bias is None else bias[0] @ values[bias[1]],
            )
        return ((Sum(deltas), 1.0),)
