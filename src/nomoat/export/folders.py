"""Base and stack as folders: a merged model for transformers and vLLM, or the stack alone as one PEFT adapter."""

from __future__ import annotations

from pathlib import Path

from nomoat.core.errors import UsageError
from nomoat.core.files import atomic_write
from nomoat.engine.names import Worn
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, adaptable
from nomoat.model.load import Base
from nomoat.stack.algebra import as_adapter, weighted_sum
from nomoat.stack.merge import copy_companions, layout_of, write_file
from nomoat.stack.update import exact_updates_of
from nomoat.train.artefact import TEMPLATE_FILE

_FROM_COARSE = ("BF16", "F16", "F32")


def write_hf(folder: Path, base: Base, worn: Worn, *, type: str = "") -> str:
    """Write the merged model into ``folder``; return the type of the changed tensors.

    ``type``: F32, F16 or BF16 for what the stack changes; empty: each tensor's own. What the stack does not touch is
    copied as it stands. Raises ``UsageError`` for a base that is a GGUF file.
    """
    if not base.path.is_dir():
        raise UsageError(
            f"{base.name} is a GGUF file, which transformers does not read as a folder",
            hint="--to gguf, or take the model's Hugging Face folder as the base",
        )
    layout = layout_of(base, worn, type)
    copy_companions(base.path, folder, layout)
    for file in layout.files:
        write_file(folder / file, layout, base, worn, aside={})
    if base.template.kind != "base":
        atomic_write(folder / TEMPLATE_FILE, base.template.source)
    stored = {layout.weights.type(layout.sources[tensor]) for tensor in layout.modules.values()}
    return type or min(stored, key=_FROM_COARSE.index, default="F32")


def write_peft(folder: Path, base: Base, worn: Worn, *, name: str) -> Adapter:
    """Write the stack as one PEFT adapter: a single adapter as it is, several as their exact sum.

    With a DoRA among them the sum is a DoRA. Raises ``UsageError`` where that cannot be (``stack/algebra.py``).
    """
    adapter = _one_adapter(base, worn, name)
    save_adapter(adapter, folder, base.decoder)
    if base.template.kind != "base":
        atomic_write(folder / TEMPLATE_FILE, base.template.source)
    return adapter


def _one_adapter(base: Base, worn: Worn, name: str) -> Adapter:
    if len(worn) == 1 and worn[0][1] == 1.0:
        return worn[0][0]
    weights = adaptable(base.decoder)
    together = weighted_sum([(exact_updates_of(adapter, weights), weight) for adapter, weight in worn])
    return as_adapter(together, name=name, base_name=base.name, fingerprint=base.fingerprint, weights=weights)
