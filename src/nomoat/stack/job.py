"""``stack``: adapters to one adapter in the store, as a generator of records."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Note, Record, Saved
from nomoat.core.store import Store
from nomoat.engine.names import Worn, folders_of, open_named, plain_name
from nomoat.engine.reward import refuse_reward_head
from nomoat.model.adapters import Adapter, adaptable
from nomoat.model.load import Base
from nomoat.stack.algebra import as_adapter, check_same_base
from nomoat.stack.artefact import lineage_of, metrics_of, with_metrics, write_combined
from nomoat.stack.coefficients import Coefficients
from nomoat.stack.combine import Combined, Ingredient, combine
from nomoat.stack.options import CombineOptions, check

_FORM = "nomoat stack scribe sql:0.5 --name both"


@dataclasses.dataclass(frozen=True, slots=True)
class OpenStack:
    """A base and the adapters to work on, with the folders they came from.

    ``coefficients``: the weights inside the adapters, where a search found finer ones than those they are worn at.
    """

    base: Base
    worn: Worn
    folders: tuple[Path, ...]
    coefficients: Coefficients | None = None

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The adapters without their weights."""
        return tuple(adapter for adapter, _ in self.worn)


def open_parts(store: Store, words: Sequence[str], base: str = "") -> OpenStack:
    """Open ``scribe sql:0.5`` or ``base+scribe+sql:0.5``, just these. Raises as ``open_stack`` does."""
    if not words:
        raise UsageError("there is no adapter to work on", hint=_FORM)
    spec = "+".join([base, *words] if base else words)
    name = plain_name(store, spec)
    opened, worn = open_named(store, [name])[0]
    if not worn:
        raise UsageError(f"{spec!r} is a base without an adapter", hint=_FORM)
    check_same_base([adapter for adapter, _ in worn])
    refuse_reward_head(worn, "making one adapter of several")
    return OpenStack(opened, worn, folders_of(store, name))


def stack(
    opened: OpenStack,
    options: CombineOptions,
    store: Store,
    *,
    name: str,
    replace: bool = False,
    densities: Sequence[float | None] = (),
) -> Generator[Record]:
    """Make one adapter of several and put it into the store; ends with ``Done("stack")``.

    ``densities``: one for each adapter where they differ. Raises ``UsageError``, ``AdapterMismatch``,
    ``StorageError``.
    """
    check(options)
    if store.path("adapters", name).exists() and not replace:
        raise UsageError(f"there is an adapter {name!r} already", hint="choose another --name, or pass --replace")
    given = list(densities) or [None] * len(opened.worn)
    ingredients = [Ingredient(adapter, weight, density) for (adapter, weight), density in zip(opened.worn, given)]
    combined, adapter = yield from _combined(opened, ingredients, options, name)
    yield from _remarks(combined, adapter, options)
    lineage = lineage_of(name, opened.base, opened.folders, _recorded(opened, options), store)
    lineage = with_metrics(lineage, metrics_of(combined, adapter))
    finer = opened.coefficients
    path = write_combined(store, lineage, adapter, opened.base, replace=replace, parts=opened.folders, finer=finer)
    yield Saved(path, "adapter")
    modules = [dataclasses.asdict(each) for each in combined.account]
    yield Done("stack", path, {"name": name, **lineage.metrics, "licence": lineage.licence, "modules": modules})


def _combined(
    opened: OpenStack, ingredients: Sequence[Ingredient], options: CombineOptions, name: str
) -> Generator[Record, None, tuple[Combined, Adapter]]:
    base, weights = opened.base, adaptable(opened.base.decoder)
    with torch.no_grad():
        combined = yield from combine(ingredients, options, weights)
        adapter = as_adapter(
            combined.updates, name=name, base_name=base.name, fingerprint=base.fingerprint, weights=weights
        )
    return combined, adapter


def _recorded(opened: OpenStack, options: CombineOptions) -> dict[str, Any]:
    """The options as the lineage keeps them, with the weights."""
    found = opened.coefficients
    if found is None:
        return {**dataclasses.asdict(options), "weights": {adapter.name: weight for adapter, weight in opened.worn}}
    return {**dataclasses.asdict(options), "grain": found.grain, "weights": found.weights}


def _remarks(combined: Combined, adapter: Adapter, options: CombineOptions) -> Generator[Record]:
    worst = min(combined.account, key=lambda each: each.kept)
    if worst.kept < 1 - 1e-9:
        yield Note(
            f"compression keeps {combined.kept:.2%} of the update's energy; least in {worst.module} ({worst.kept:.2%})"
        )
    if len({each.rank for each in combined.account}) > 1:
        yield Note("ranks differ from module to module: rank_pattern says which; some runtimes read one rank only")
    if adapter.config.use_dora:
        yield Note("the sum is a DoRA, which llama.cpp and vLLM do not run; --rank 64 makes a plain adapter of it")
    if options.method == "concat" and options.rank == 0 and options.energy == 0.0:
        rank = max(each.rank for each in combined.account)
        yield Note(f"exact, at rank {rank}; --rank or --energy makes it smaller and says what that costs")
