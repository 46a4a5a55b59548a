"""A stack's updates with a coefficient before each adapter, layer, module or direction, or with a core between them.

A direction is a singular direction of one module's update. A core is a small matrix between all A and all B of a
module. Biases, and the multiples of the base's rows that a DoRA adds, take their adapter's, layer's or module's
coefficient, or one of their own where the grain is finer than a module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nomoat.model.adapters import Adapter, layer_of
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.compress import spectrum_of
from nomoat.stack.options import CORE
from nomoat.stack.update import Update, Updates, concatenated, exact_updates_of

Shares = Sequence[Mapping[str, float]]  # for each adapter, by module: the share of its update that is taken


@dataclasses.dataclass(frozen=True, slots=True)
class Vectors:
    """What adapters add at one module beside their factors.

    Vectors (out, n), the places of their ``owners`` in the stack, and the numbers of their coefficients (n,).
    """

    each: Tensor
    owners: tuple[int, ...]
    numbers: Tensor

    def total(self, values: Tensor) -> Tensor:
        """Their sum under coefficients (count,): (out,)."""
        return self.each @ values[self.numbers]

    def parted(self, values: Tensor) -> dict[int, Tensor]:
        """Each one under its coefficient of (count,), by its owner's place."""
        return dict(zip(self.owners, (self.each * values[self.numbers]).unbind(1), strict=True))


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """One module: the factors of the adapters that stand on it side by side, R columns in all, and their coefficients.

    ``owners``: the places of these adapters in the stack, with their ranks. ``numbers``: of the coefficient before each
    column of B (R,), or of those of a core (R, R). ``rows``: the multiples of the base's rows that DoRAs add.
    """

    whole: Update
    owners: tuple[tuple[int, int], ...]
    numbers: Tensor
    biases: Vectors | None
    rows: Vectors | None

    def factor(self, values: Tensor) -> Tensor:
        """B under coefficients (count,): (out, R)."""
        if self.numbers.ndim == 1:
            return self.whole.lora_B * values[self.numbers]
        return self.whole.lora_B @ values[self.numbers]

    def total(self, values: Tensor) -> Update:
        """The sum of all that stands here under coefficients (count,)."""
        bias, rows = (None if each is None else each.total(values) for each in (self.biases, self.rows))
        return Update(self.whole.lora_A, self.factor(values), bias, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """A stack's updates by module, each adapter's at weight 1, and how many coefficients stand before them.

    ``weights``: the base's matrices.
    """

    grain: str
    adapters: tuple[Adapter, ...]
    updates: tuple[Updates, ...]
    sites: Mapping[str, Site]
    count: int
    weights: Mapping[str, FrozenWeight]


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


def grid_of(adapters: Sequence[Adapter], grain: str, weights: Mapping[str, FrozenWeight]) -> Grid:
    """The grid of ``grain``, one of ``options.GRAINS``, over the base whose matrices are ``weights``."""
    updates = tuple(_updates(adapter, grain, weights) for adapter in adapters)
    numbers = _Numbers()
    modules = dict.fromkeys(module for own in updates for module in own)
    sites = {module: _site(module, updates, grain, numbers) for module in modules}
    return Grid(grain, tuple(adapters), updates, sites, numbers.count, weights)


def _site(module: str, updates: Sequence[Updates], grain: str, numbers: _Numbers) -> Site:
    places = [place for place, own in enumerate(updates) if module in own]
    parts = [updates[place][module] for place in places]
    group = _GROUPS[grain]
    if grain == CORE:
        at = numbers.square(sum(part.rank for part in parts))
    else:
        columns = [(place, column) for place, part in zip(places, parts) for column in range(part.rank)]
        at = torch.tensor([numbers.of(place, group(module, column)) for place, column in columns]).long()
    biases = [(place, part.bias) for place, part in zip(places, parts) if part.bias is not None]
    rows = [(place, part.rows) for place, part in zip(places, parts) if part.rows is not None]
    return Site(
        whole=concatenated([dataclasses.replace(part, bias=None, rows=None) for part in parts]),
        owners=tuple((place, part.rank) for place, part in zip(places, parts)),
        numbers=at,
        biases=_vectors(biases, [numbers.of(place, group(module, -1)) for place, _ in biases]),
        rows=_vectors(rows, [numbers.of(place, group(module, -2)) for place, _ in rows]),
    )


def _vectors(owned: Sequence[tuple[int, Tensor]], numbers: Sequence[int]) -> Vectors | None:
    if not owned:
        return None
    return Vectors(
        torch.stack([each for _, each in owned], 1), tuple(place for place, _ in owned), torch.tensor(numbers)
    )


_GROUPS: dict[str, Callable[[str, int], object]] = {
    "adapter": lambda module, column: "",
    "layer": lambda module, column: module if layer_of(module) is None else layer_of(module),
    "module": lambda module, column: module,
    "direction": lambda module, column: (module, column),
    CORE: lambda module, column: (module, column),
}


def _updates(adapter: Adapter, grain: str, weights: Mapping[str, FrozenWeight]) -> Updates:
    """The adapter's updates; by directions, in their singular directions."""
    found = exact_updates_of(adapter, weights)
    if grain not in ("direction", CORE):
        return found
    return {
        module: dataclasses.replace(spectrum_of(update).truncated(update.rank), bias=update.bias, rows=update.rows)
        for module, update in found.items()
    }


def from_shares(grid: Grid, shares: Shares) -> Tensor:
    """Coefficients (count,) under which every column takes its module's share: where a finer search begins."""
    values = torch.zeros(grid.count)
    for module, site in grid.sites.items():
        own = torch.tensor([shares[place][module] for place, rank in site.owners for _ in range(rank)])
        values[site.numbers if site.numbers.ndim == 1 else site.numbers.diagonal()] = own
        for vectors in (site.biases, site.rows):
            if vectors is not None:
                values[vectors.numbers] = torch.tensor([shares[place][module] for place in vectors.owners])
    return values


def alike(adapters: Sequence[Adapter], weights: Sequence[float]) -> Shares:
    """One share for all of an adapter."""
    return [dict.fromkeys(adapter.deltas, weight) for adapter, weight in zip(adapters, weights)]
