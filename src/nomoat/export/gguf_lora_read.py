"""A GGUF LoRA file read back as an adapter, the way llama.cpp reads it: to check what was written."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nomoat.core.errors import FormatError
from nomoat.export.layout import row_order, tensor_name
from nomoat.formats.blocks import dequantize
from nomoat.formats.gguf import GgufFile
from nomoat.model.adapters import Adapter, AdapterConfig, adaptable, is_embedding
from nomoat.model.delta import Delta
from nomoat.model.load import Base


def read_lora(path: Path, base: Base) -> Adapter:
    """The adapter in ``path`` over ``base``. Raises ``FormatError`` for what is no LoRA of this base."""
    file = GgufFile.open(path)
    if file.metadata.get("general.type") != "adapter" or file.metadata.get("adapter.type") != "lora":
        raise FormatError("is no LoRA adapter", file=path)
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float):
        raise FormatError(f"adapter.lora.alpha is {alpha!r:.40}, not a number", file=path)
    names = {tensor_name(module, base.decoder.config): module for module in adaptable(base.decoder)}
    deltas: dict[str, Delta] = {}
    for stored in file.names():
        name, _, part = stored.rpartition(".")
        if name not in names or part not in ("lora_a", "lora_b"):
            raise FormatError(f"tensor {stored!r} belongs to nothing in {base.name}", file=path)
        if part == "lora_a":
            deltas[names[name]] = _delta(file, name, names[name], alpha, base)
    config = AdapterConfig(rank=max((delta.rank for delta in deltas.values()), default=1))
    return Adapter(path.stem, config, deltas, base.name)


def _delta(file: GgufFile, name: str, module: str, alpha: float, base: Base) -> Delta:
    a, b = _floats(file, f"{name}.lora_a"), _floats(file, f"{name}.lora_b")
    a = a.T.contiguous() if is_embedding(module) else a
    order = row_order(module, b.shape[0], base.decoder.config)
    if order is not None:
        b = b[torch.argsort(order)]
    return Delta(nn.Parameter(a), nn.Parameter(b), alpha / a.shape[0] if alpha else 1.0)


def _floats(file: GgufFile, name: str) -> Tensor:
    return torch.from_numpy(dequantize(file.data(name), file.type(name)).reshape(file.shape(name)))
