"""A combined adapter in the store: a PEFT folder, its lineage, its card, and its template if it needs one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.core.amounts import rounded
from nomoat.core.files import atomic_write, write_json
from nomoat.core.store import Lineage, Store, write_lineage
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base
from nomoat.stack.coefficients import Coefficients, in_words
from nomoat.stack.combine import Combined
from nomoat.stack.heat import draw_weights
from nomoat.train.artefact import CARD_FILE, TEMPLATE_FILE, front_matter, how_to_load
from nomoat.train.parents import adapter_origins, base_origin, derived_licence
from nomoat.train.rehearsal import RESERVOIR

WEIGHTS_FILE, WEIGHTS_PICTURE = "weights.json", "weights.png"


def lineage_of(
    name: str,
    base: Base,
    folders: Sequence[Path],
    options: Mapping[str, Any],
    store: Store,
) -> Lineage:
    """Parents with their hashes, all licences together, and how it was made; ``options`` hold the ``weights``."""
    origin = base_origin(store, base.name, base)
    theirs = adapter_origins(folders)
    return Lineage(
        kind="adapters",
        name=name,
        licence=derived_licence(origin.licence, *(each.licence for each in theirs)),
        parents=(origin.parent, *(each.parent for each in theirs)),
        options=dict(options),
        seed=int(options.get("seed", 0)),
    )


def metrics_of(combined: Combined, adapter: Adapter) -> dict[str, Any]:
    """The account in figures."""
    return {
        "adapter_parameters": adapter.n_parameters,
        "highest_rank": max(each.rank for each in combined.account),
        "rank_before": max(each.rank_before for each in combined.account),
        "kept_energy": combined.kept,
    }


def write_combined(
    store: Store,
    lineage: Lineage,
    adapter: Adapter,
    base: Base,
    *,
    replace: bool,
    parts: Sequence[Path] = (),
    finer: Coefficients | None = None,
) -> Path:
    """Write ``adapters/<name>``, whole or not at all. Rows that its ``parts`` kept for rehearsal stay with it.

    ``finer`` weights than one for each part are written beside it, as figures and as a picture.
    """
    kept = [(folder / RESERVOIR).read_text(encoding="utf-8") for folder in parts if (folder / RESERVOIR).is_file()]
    with store.writing("adapters", lineage.name, replace=replace) as folder:
        save_adapter(adapter, folder, base.decoder)
        if base.template.kind != "base":  # the base has none of its own: what was learned with must travel along
            atomic_write(folder / TEMPLATE_FILE, base.template.source)
        if kept:
            atomic_write(folder / RESERVOIR, "".join(kept))
        if finer is not None:
            write_json(folder / WEIGHTS_FILE, dataclasses.asdict(finer))
            draw_weights(finer.shares, folder / WEIGHTS_PICTURE)
        atomic_write(folder / CARD_FILE, _card(lineage, adapter))
        write_lineage(folder, lineage)
    return store.path("adapters", lineage.name)


def _card(lineage: Lineage, adapter: Adapter) -> str:
    weights = ", ".join(f"`{name}` at {weight:g}" for name, weight in lineage.options["weights"].items())
    if "grain" in lineage.options:
        weights += f" on average, {in_words(lineage.options['grain'])} (`{WEIGHTS_FILE}`, `{WEIGHTS_PICTURE}`),"
    kept = lineage.metrics["kept_energy"]
    loss = "exactly" if kept >= 1 - 1e-9 else f"keeping {kept:.2%} of the update's energy"
    return (
        f"{front_matter(lineage, adapter)}\n\n# {lineage.name}\n\n"
        f"A LoRA adapter for `{adapter.base_name}` ({rounded(adapter.n_parameters)} parameters, rank "
        f"{lineage.metrics['highest_rank']}), made of {weights} by {lineage.options['method']}, {loss}.\n\n"
        f"Licence: {lineage.licence}, from the base and the adapters. Options and hashes: `nomoat.json`.\n\n"
        f"```\nnomoat chat {adapter.base_name}+{lineage.name}\n```\n\n"
        f"{how_to_load(lineage.name)}"
    )


def with_metrics(lineage: Lineage, metrics: Mapping[str, Any]) -> Lineage:
    """The lineage with what was measured."""
    return dataclasses.replace(lineage, metrics=dict(metrics))
