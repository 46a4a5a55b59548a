"""Several adapters into one, module by module, with an account of what it cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor

from nomoat.core.errors import NumericError, UsageError
from nomoat.core.records import Progress
from nomoat.model.adapters import Adapter, seed_of
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.compress import Spectrum, spectrum_of, spectrum_of_matrix
from nomoat.stack.methods import ON_ENTRIES, ON_FACTORS, Mix, mixed_bias
from nomoat.stack.options import SUMS, CombineOptions
from nomoat.stack.update import Update, Updates, exact_update_of, is_low_rank, nothing, update_of

_CANCELLED = 1e-12  # share of the parts' energy that rounding leaves where updates cancel


@dataclasses.dataclass(frozen=True, slots=True)
class Ingredient:
    """One adapter of a combination. ``density`` replaces the options' where it is given."""

    adapter: Adapter
    weight: float
    density: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleAccount:
    """What became of one module: ranks, energy before compression, the share of it that is kept.

    The energy is the square of the Frobenius norm of the factors' product; of a DoRA, without the base's rows.
    """

    module: str
    rank_before: int
    rank: int
    energy: float
    kept: float


@dataclasses.dataclass(frozen=True, slots=True)
class Combined:
    """The updates of the new adapter and the account, one entry a module."""

    updates: Updates
    account: tuple[ModuleAccount, ...]

    @property
    def kept(self) -> float:
        """Share of the energy of all modules together that survived compression."""
        energy = sum(each.energy for each in self.account)
        return sum(each.kept * each.energy for each in self.account) / energy if energy > 0 else 1.0


def combine(
    ingredients: Sequence[Ingredient], options: CombineOptions, weights: Mapping[str, FrozenWeight]
) -> Generator[Progress, None, Combined]:
    """Combine adapters over the base whose matrices are ``weights`` (``model.adapters.adaptable``).

    Raises ``UsageError`` where the result cannot be an adapter: a DoRA in what is not a plain sum, without a rank to
    compress to; updates that cancel; ``NumericError`` where one overflows.
    """
    _refuse_full_rank(ingredients, options)
    modules = list(dict.fromkeys(module for each in ingredients for module in each.adapter.deltas))
    updates: Updates = {}
    account = []
    for done, module in enumerate(modules, start=1):
        update, entry = _module(module, ingredients, options, weights[module])
        if entry.energy > 0.0 or any(bool(each.any()) for each in (update.bias, update.rows) if each is not None):
            factors = update if update.rank else nothing(*update.shape, rank=1)
            updates[module] = dataclasses.replace(factors, bias=update.bias, rows=update.rows)
            account.append(entry)
        yield Progress("combining", done, len(modules), "modules")
    if not updates:
        raise UsageError("nothing is left: the updates cancel, or every weight is 0")
    return Combined(updates, tuple(account))


def _is_exact_sum(options: CombineOptions) -> bool:
    """Whether every adapter's part stays what it is, times a number: then a DoRA may stay one."""
    return options.method in SUMS and not options.rank and not options.energy


def _refuse_full_rank(ingredients: Sequence[Ingredient], options: CombineOptions) -> None:
    for each in ingredients:
        if not is_low_rank(each.adapter) and not options.rank and not _is_exact_sum(options):
            raise UsageError(
                f"{each.adapter.name!r} is a DoRA: what it adds to the base has full rank, and no LoRA equals it",
                hint="--rank 64 takes the best 64 directions and says what they keep; --method concat without --energy "
                "makes an exact DoRA of the sum",
            )


def _module(
    module: str, ingredients: Sequence[Ingredient], options: CombineOptions, weight: FrozenWeight
) -> tuple[Update, ModuleAccount]:
    several = _updates_at(module, ingredients, weight, exact=_is_exact_sum(options))
    for each in several:
        for values in (each.lora_B, each.bias, each.rows):
            if values is not None:
                _check_finite(values, module)
    before = sum(update.rank for update in several)
    generator = torch.Generator().manual_seed(seed_of(options.seed, module))
    mix = Mix(
        weights=tuple(each.weight for each in ingredients),
        densities=tuple(options.density if each.density is None else each.density for each in ingredients),
        generator=generator,
        epsilon=options.epsilon,
        normalize=options.normalizes,
        scale=options.scale,
    )
    if options.method in ON_ENTRIES:
        matrix = ON_ENTRIES[options.method]([update.dense() for update in several], mix)
        _check_finite(matrix, module)
        spectrum = spectrum_of_matrix(matrix, options.rank, generator)
        return _compressed(module, before, spectrum, options, mixed_bias(several, ON_ENTRIES[options.method], mix))
    update = ON_FACTORS[options.method](several, mix)
    _check_finite(update.lora_B, module)
    if options.rank or options.energy:
        spectrum = _without_rounding(spectrum_of(update), several, mix)
        return _compressed(module, before, spectrum, options, update.bias)
    return update, ModuleAccount(module, before, update.rank, update.energy, 1.0)


def _check_finite(values: Tensor, module: str) -> None:
    if not bool(values.isfinite().all()):
        raise NumericError(
            f"{module}: the update overflows float32 once scale and weight are folded in",
            hint="look at the alpha of the adapters, and at their weights",
        )


def _updates_at(module: str, ingredients: Sequence[Ingredient], weight: FrozenWeight, *, exact: bool) -> list[Update]:
    """Every ingredient's update, of rank 0 where it leaves the module alone; ``exact``: a DoRA's at its own rank."""
    update_at = exact_update_of if exact else update_of
    delta = next(each.adapter.deltas[module] for each in ingredients if module in each.adapter.deltas)
    absent = nothing(delta.lora_B.shape[0], delta.lora_A.shape[1])
    return [
        update_at(each.adapter, module, weight) if module in each.adapter.deltas else absent for each in ingredients
    ]


def _without_rounding(spectrum: Spectrum, several: Sequence[Update], mix: Mix) -> Spectrum:
    """Energy 0 where what is left of the parts is rounding."""
    parts = sum(update.energy * weight * weight for update, weight in zip(several, mix.weights))
    return dataclasses.replace(spectrum, energy=0.0) if spectrum.energy <= _CANCELLED * parts else spectrum


def _compressed(
    module: str, before: int, spectrum: Spectrum, options: CombineOptions, bias: Tensor | None
) -> tuple[Update, ModuleAccount]:
    rank = len(spectrum.s) if not options.rank else min(options.rank, len(spectrum.s))
    if options.energy:
        rank = min(rank, spectrum.rank_for(options.energy))
    update = dataclasses.replace(spectrum.truncated(rank), bias=bias)
    return update, ModuleAccount(module, before, rank, spectrum.energy, spectrum.kept(rank))
