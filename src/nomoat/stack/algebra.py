"""Sums, differences and multiples of adapters over one base, exact: factors side by side, scales folded in.

Adapters may differ in rank, alpha, kind of scaling, targets and biases. What the sum is made into is an adapter again,
with ``alpha / rank`` = 1 on every module, so that no reader's idea of scaling can bend it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import nn

from nomoat.core.errors import AdapterMismatch, UsageError
from nomoat.formats.peft_config import MAX_RANK
from nomoat.model.adapters import Adapter, AdapterConfig, is_embedding
from nomoat.model.delta import Delta
from nomoat.model.fingerprint import Fingerprint
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.dora import as_dora
from nomoat.stack.update import Update, Updates, concatenated


def weighted_sum(parts: Sequence[tuple[Mapping[str, Update], float]]) -> Updates:
    """The sum of weighted updates, module by module. Parts of weight 0 leave no trace."""
    together: dict[str, list[Update]] = {}
    for updates, weight in parts:
        for module, update in updates.items():
            if weight != 0.0:
                together.setdefault(module, []).append(update.scaled(weight) if weight != 1.0 else update)
    return {module: concatenated(several) for module, several in together.items()}


def difference(minuend: Mapping[str, Update], subtrahend: Mapping[str, Update]) -> Updates:
    """The first minus the second."""
    return weighted_sum([(minuend, 1.0), (subtrahend, -1.0)])


def negated(updates: Mapping[str, Update]) -> Updates:
    """What takes the updates away again."""
    return {module: update.scaled(-1.0) for module, update in updates.items()}


def check_same_base(adapters: Sequence[Adapter]) -> None:
    """Raise ``AdapterMismatch`` unless all adapters that know their base know the same one, and shapes agree."""
    known = [each for each in adapters if each.base_fingerprint is not None]
    for other in known[1:]:
        why = known[0].base_fingerprint.difference(other.base_fingerprint)  # type: ignore[union-attr, arg-type]
        if why:
            raise AdapterMismatch(other.name, expected=other.base_name, got=known[0].base_name, why=why)
    shapes: dict[str, tuple[int, int]] = {}
    for adapter in adapters:
        for module, delta in adapter.deltas.items():
            shape = delta.lora_B.shape[0], delta.lora_A.shape[1]
            if shapes.setdefault(module, shape) != shape:
                why = f"{module} is {shapes[module]} in the others and {shape} in this one"
                raise AdapterMismatch(adapter.name, expected=adapter.base_name, got=adapters[0].base_name, why=why)


def as_adapter(
    updates: Mapping[str, Update],
    *,
    name: str,
    base_name: str,
    fingerprint: Fingerprint | None,
    weights: Mapping[str, FrozenWeight] | None = None,
) -> Adapter:
    """Updates as an adapter; with multiples of the base's rows among them as a DoRA, which needs its ``weights``.

    Raises ``UsageError`` when there is nothing, more rank than an adapter may have, or what no DoRA can say.
    """
    if not updates:
        raise UsageError("nothing is left: every weight is 0", hint="give at least one adapter a weight")
    highest = max(updates.values(), key=lambda update: update.rank).rank
    if highest > MAX_RANK:
        raise UsageError(
            f"the sum has rank {highest:,}, and an adapter holds {MAX_RANK:,} at most",
            hint="compress it: --rank 64, or --energy 0.999",
        )
    config = config_for({module: update.rank for module, update in updates.items()})
    if any(update.rows is not None for update in updates.values()):
        deltas, config = _doras(updates, weights), dataclasses.replace(config, use_dora=True)
    else:
        deltas = {module: _plain(update) for module, update in updates.items()}
    return Adapter(name, config, deltas, base_name, fingerprint)


def _plain(update: Update) -> Delta:
    a, b = nn.Parameter(update.lora_A.contiguous()), nn.Parameter(update.lora_B.contiguous())
    return Delta(a, b, 1.0, bias=update.bias)


def _doras(updates: Mapping[str, Update], weights: Mapping[str, FrozenWeight] | None) -> dict[str, Delta]:
    """Every module as a DoRA, for an adapter is one in all its modules or in none."""
    if weights is None:
        raise UsageError("a DoRA stands on the base's own rows", hint="open the base with it")
    deltas = {}
    for module, update in updates.items():
        if is_embedding(module):
            raise UsageError(
                f"{module} is adapted, and a DoRA cannot be there: the sum is no adapter",
                hint="--rank 64 makes it a plain one; served as a stack it is exact",
            )
        made = as_dora(update, weights[module])
        assert made.magnitude is not None
        leaves = (made.lora_A, made.lora_B, made.magnitude)
        a, b, magnitude = (nn.Parameter(each.detach().contiguous()) for each in leaves)
        deltas[module] = Delta(a, b, 1.0, magnitude, bias=made.bias)
    return deltas


def config_for(ranks: Mapping[str, int]) -> AdapterConfig:
    """The configuration that gives every module its rank and the scaling 1.

    The commonest rank is the adapter's; a kind of module that has another everywhere is named by its kind
    (``down_proj``), others by their whole names.
    """
    common = Counter(ranks.values()).most_common(1)[0][0]
    by_kind: dict[str, set[int]] = {}
    for module, rank in ranks.items():
        by_kind.setdefault(module.rsplit(".", 1)[-1], set()).add(rank)
    pattern: dict[str, int] = {}
    for module, rank in ranks.items():
        kind = module.rsplit(".", 1)[-1]
        if by_kind[kind] == {common}:
            continue
        if len(by_kind[kind]) == 1:
            pattern[kind] = rank
        elif rank != common:
            pattern[module] = rank
    return AdapterConfig(
        rank=common,
        alpha=float(common),
        target_modules=tuple(sorted(by_kind)),
        rank_pattern=pattern,
        alpha_pattern={key: float(rank) for key, rank in pattern.items()},
    )
