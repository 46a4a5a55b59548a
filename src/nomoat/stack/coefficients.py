"""The weights of a stack as fine as is asked: before each adapter, or before each of its layers, modules or directions.

Layer by layer: AdaMerging, Yang et al. 2023 (arXiv 2310.02575), section 3.2; on adapters: LoRA Soups, Prabhakar et al.
2024 (arXiv 2410.13025), section 3. A direction is a singular direction of one module's update. The finest grain is a
core, a small matrix between all A and all B of a module (LoRA-XS, Balazy et al. 2024, arXiv 2405.17604, section 3),
whose diagonal are the weights of the directions. Whatever the grain, only the factors B change, so the sum stays an
exact sum of low-rank updates of the same ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from nomoat.engine.names import Worn
from nomoat.model.adapters import Adapter
from nomoat.model.delta import Delta, Stack
from nomoat.stack.algebra import as_adapter
from nomoat.stack.dora import as_dora
from nomoat.stack.grid import Grid
from nomoat.stack.options import CORE
from nomoat.stack.update import Update, Updates


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


def in_words(grain: str) -> str:
    """What a stack with weights of that grain has."""
    return "a core at each module" if grain == CORE else f"one weight for each {grain}"


@torch.no_grad()
def weighted_updates(grid: Grid, values: Tensor) -> tuple[Updates, ...]:
    """Each adapter's updates with their coefficients (count,) inside."""
    found: tuple[Updates, ...] = tuple({} for _ in grid.adapters)
    for module, site in grid.sites.items():
        ranks = [rank for _, rank in site.owners]
        biases, rows = ({} if each is None else each.parted(values) for each in (site.biases, site.rows))
        for (place, _), b in zip(site.owners, torch.split(site.factor(values), ranks, dim=1)):
            a = grid.updates[place][module].lora_A
            found[place][module] = Update(a, b.contiguous(), biases.get(place), rows.get(place))
    return found


@torch.no_grad()
def shares_of(grid: Grid, values: Tensor) -> list[dict[str, float]]:
    """The multiple of each module's factors that comes nearest to what the coefficients (count,) make of them."""
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
    return tuple((_adapter(each, own, grid), 1.0) for each, own in zip(grid.adapters, weighted_updates(grid, values)))


def _adapter(like: Adapter, updates: Updates, grid: Grid) -> Adapter:
    fingerprint = like.base_fingerprint
    return as_adapter(updates, name=like.name, base_name=like.base_name, fingerprint=fingerprint, weights=grid.weights)


def learnable(grid: Grid, values: Tensor) -> Stack:
    """The whole sum as one adapter under coefficients (count,), through which gradients flow to them."""
    deltas = {}
    for module, site in grid.sites.items():
        total = site.total(values)
        if total.rows is not None:
            deltas[module] = as_dora(total, grid.weights[module])
            continue
        # Not a leaf, so that the gradient goes on to the coefficients; a forward pass asks no more of it.
        b = cast(nn.Parameter, total.lora_B)
        deltas[module] = Delta(nn.Parameter(total.lora_A, requires_grad=False), b, 1.0, bias=total.bias)
    return ((Sum(deltas), 1.0),)
