"""``extract``: what a tuned model learned, as an adapter over the base it was tuned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import torch

from nomoat.core.errors import AdapterMismatch, UsageError
from nomoat.core.records import Done, Note, Progress, Record, Saved
from nomoat.core.store import Lineage, Store
from nomoat.engine.names import open_base
from nomoat.model.adapters import adaptable, seed_of
from nomoat.model.decoder import Decoder, RMSNorm
from nomoat.model.frozen import FrozenWeight
from nomoat.model.linear import Linear
from nomoat.model.load import Base
from nomoat.stack.algebra import as_adapter
from nomoat.stack.artefact import metrics_of, write_combined
from nomoat.stack.combine import Combined, ModuleAccount
from nomoat.stack.compress import spectrum_of_matrix
from nomoat.stack.update import Update, Updates
from nomoat.train.parents import base_origin, derived_licence

_SAME = 1e-12  # share of a matrix's own energy below which it was not tuned


def extract(
    tuned: str, base: str, store: Store, *, rank: int, name: str, energy: float = 0.0, replace: bool = False
) -> Generator[Record]:
    """Write ``adapters/<name>``: the best adapter of ``rank`` that turns ``base`` into ``tuned``.

    Works between any two forms of one architecture; a quantized side brings its rounding along. ``energy`` lowers the
    rank of a module as far as it keeps that share. Ends with ``Done("extract")``. Raises ``UsageError``,
    ``AdapterMismatch`` where the two have other modules or sizes.
    """
    if rank < 1:
        raise UsageError(f"--rank cannot be {rank}", hint="give 1 or more")
    if store.path("adapters", name).exists() and not replace:
        raise UsageError(f"there is an adapter {name!r} already", hint="choose another --name, or pass --replace")
    after, before = open_base(store, tuned), open_base(store, base)
    _check_same_shape(after, before)
    yield from _what_is_lost(after.decoder, before.decoder)
    combined = yield from _difference(after.decoder, before.decoder, rank, energy)
    adapter = as_adapter(combined.updates, name=name, base_name=before.name, fingerprint=before.fingerprint)
    origins = [base_origin(store, each.name, each) for each in (before, after)]
    lineage = Lineage(
        kind="adapters",
        name=name,
        licence=derived_licence(*(origin.licence for origin in origins)),
        parents=(origins[0].parent, dataclasses.replace(origins[1].parent, kind="model")),
        options={"method": "extract", "rank": rank, "energy": energy, "weights": {after.name: 1.0}},
        metrics=metrics_of(combined, adapter),
    )
    path = write_combined(store, lineage, adapter, before, replace=replace)
    yield Saved(path, "adapter")
    modules = [dataclasses.asdict(each) for each in combined.account]
    yield Done("extract", path, {"name": name, **lineage.metrics, "licence": lineage.licence, "modules": modules})


def _check_same_shape(after: Base, before: Base) -> None:
    theirs = {name: weight.shape for name, weight in adaptable(after.decoder).items()}
    ours = {name: weight.shape for name, weight in adaptable(before.decoder).items()}
    for module in sorted({*theirs, *ours}):
        if theirs.get(module) != ours.get(module):
            why = f"{module} is {theirs.get(module, 'missing')} in it and {ours.get(module, 'missing')} in the base"
            hint = "name the base that it was tuned from"
            raise AdapterMismatch(after.name, expected=after.fingerprint.shape, got=before.name, why=why, hint=hint)


def _what_is_lost(after: Decoder, before: Decoder) -> Generator[Note]:
    """Norms and biases are not part of a LoRA: say where they differ."""
    theirs, moved = _vectors(after), []
    for name, vector in _vectors(before).items():
        other = theirs.get(name)
        if other is None or other.shape != vector.shape or not torch.allclose(other, vector, atol=1e-6, rtol=1e-5):
            moved.append(name)
    if moved:
        yield Note(
            f"{len(moved)} norms or biases were tuned too, and no LoRA holds them: {', '.join(moved[:3])} ...",
            warning=True,
        )


def _vectors(decoder: Decoder) -> dict[str, torch.Tensor]:
    vectors = {name: m.weight for name, m in decoder.named_modules() if isinstance(m, RMSNorm)}
    biases = {m.name: m.bias for m in decoder.modules() if isinstance(m, Linear) and m.bias is not None}
    return vectors | {f"{name}.bias": bias for name, bias in biases.items() if bias is not None}


def _difference(after: Decoder, before: Decoder, rank: int, energy: float) -> Generator[Record, None, Combined]:
    theirs, ours = adaptable(after), adaptable(before)
    modules = [name for name in ours if name != "lm_head" or ours[name] is not ours["model.embed_tokens"]]
    updates: Updates = {}
    account = []
    for done, module in enumerate(modules, start=1):
        found = _module(module, theirs[module], ours[module], rank, energy)
        if found is not None:
            updates[module], entry = found
            account.append(entry)
        yield Progress("extracting", done, len(modules), "modules")
    if not updates:
        raise UsageError("the two models hold the same matrices: there is nothing to extract")
    return Combined(updates, tuple(account))


@torch.no_grad()
def _module(
    module: str, after: FrozenWeight, before: FrozenWeight, rank: int, energy: float
) -> tuple[Update, ModuleAccount] | None:
    base = before.expand().clone()
    matrix = after.expand() - base
    if float(matrix.double().square().sum()) <= _SAME * float(base.double().square().sum()):
        return None
    if module.endswith("embed_tokens"):
        matrix = matrix.T
    spectrum = spectrum_of_matrix(matrix, rank, torch.Generator().manual_seed(seed_of(0, module)))
    taken = min(rank, len(spectrum.s))
    if energy:
        taken = min(taken, spectrum.rank_for(energy))
    entry = ModuleAccount(module, min(matrix.shape), taken, spectrum.energy, spectrum.kept(taken))
    return spectrum.truncated(taken), entry
