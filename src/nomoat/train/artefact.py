"""The finished adapter in the store: a PEFT folder, its lineage, its card, and its template if it needs one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nomoat.core.amounts import rounded
from nomoat.core.files import atomic_write
from nomoat.core.store import Lineage, Store, write_lineage
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter
from nomoat.model.load import Base
from nomoat.train.rehearsal import RESERVOIR

TEMPLATE_FILE = "chat_template.jinja"  # where transformers looks for a tokenizer's template
CARD_FILE = "README.md"


def write_artefact(
    store: Store, lineage: Lineage, adapter: Adapter, base: Base, *, replace: bool, kept_rows: str = ""
) -> Path:
    """Write ``adapters/<name>``, whole or not at all. ``kept_rows``: JSON lines that stay with it for rehearsal."""
    with store.writing("adapters", lineage.name, replace=replace) as folder:
        save_adapter(adapter, folder)
        if base.template.kind != "base":  # the base has none of its own: what was learned with must travel along
            atomic_write(folder / TEMPLATE_FILE, base.template.source)
        if kept_rows:
            atomic_write(folder / RESERVOIR, kept_rows)
        atomic_write(folder / CARD_FILE, card(lineage, adapter, base))
        write_lineage(folder, lineage)
    return store.path("adapters", lineage.name)


def card(lineage: Lineage, adapter: Adapter, base: Base) -> str:
    """A short model card, with the front matter that the hub reads."""
    data = next((parent.name for parent in lineage.parents if parent.kind == "data"), "?")
    verb, after = ("chat", "") if adapter.score is None else ("exam", " PAIRS")
    return (
        f"{front_matter(lineage, adapter)}\n\n# {lineage.name}\n\n"
        f"{_kind(adapter)} for `{adapter.base_name}` ({rounded(adapter.n_parameters)} parameters, "
        f"rank {adapter.config.rank}), trained on `{data}`.\n\n"
        f"{_loss_sentence(lineage)}\n\n"
        f"Base: {base.fingerprint.shape}. Licence: {lineage.licence}, from the base and the data. "
        "Options, hashes and figures: `nomoat.json`.\n\n"
        f"```\nnomoat {verb} {lineage.options.get('on') or adapter.base_name}+{lineage.name}{after}\n```\n\n"
        f"{how_to_load(lineage.name)}"
    )


def front_matter(lineage: Lineage, adapter: Adapter) -> str:
    """The head of a model card that the hub reads."""
    head = {
        "base_model": adapter.base_name,
        "library_name": "peft",
        "license": "other",
        "license_name": lineage.licence,
        "tags": ["lora", "nomoat"],
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())  # JSON is YAML
    return f"---\n{front}\n---"


def _kind(adapter: Adapter) -> str:
    return "A LoRA adapter" if adapter.score is None else "A reward model, a LoRA adapter and a head,"


def how_to_load(name: str) -> str:
    """The lines of a model card that load the adapter elsewhere."""
    return f'```python\nfrom peft import PeftModel\nmodel = PeftModel.from_pretrained(base, "{name}")\n```\n'


def _loss_sentence(lineage: Lineage) -> str:
    metrics: dict[str, Any] = lineage.metrics
    before, after = metrics.get("held_out_loss_before"), metrics.get("held_out_loss_after")
    if before is None or after is None:
        return f"Trained for {metrics['steps']} steps; no rows were held out to measure it."
    what = "Divergence from its teacher" if lineage.options.get("distil") else "Loss"
    each = "tokens" if lineage.options.get("method", "sft") == "sft" else "pairs"
    return (
        f"{what} on {metrics['held_out_tokens']:,} held-out {each}: {before:.4f} nats before, {after:.4f} after "
        f"(step {metrics['best_step']} of {metrics['steps']})."
    )
