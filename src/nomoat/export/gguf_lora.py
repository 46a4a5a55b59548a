"""A stack of adapters as one GGUF LoRA file, for llama.cpp, Ollama and everything built on them.

Format: what llama.cpp's loader (``src/llama-adapter.cpp``) accepts. Each matrix has ``.lora_a`` (rank, in) and
``.lora_b`` (out, rank), and is scaled by ``adapter.lora.alpha / rank`` with the rank of that very matrix. There is one
alpha and no rsLoRA, no pattern, no weight of a stack: so every scale is folded into the factors, and alpha over rank
gives 1. An embedding's A stands transposed, (V, rank), since its rows are looked up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nomoat.core.errors import UsageError
from nomoat.engine.names import Worn
from nomoat.export.layout import architecture, row_order, tensor_name
from nomoat.formats.gguf_write import PlannedTensor, Value, write_gguf
from nomoat.formats.quantize import quantize
from nomoat.formats.weights import Floats
from nomoat.model.adapters import is_embedding
from nomoat.model.config import ModelConfig
from nomoat.model.load import Base
from nomoat.stack.algebra import weighted_sum
from nomoat.stack.update import Update, updates_of

LORA_TYPES = ("F32", "F16", "Q8_0")
_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}


def write_lora(path: Path, base: Base, worn: Worn, *, name: str, type: str = "F32") -> None:
    """Write the sum of the stack as one LoRA file for ``base``.

    Raises ``UsageError`` for what no LoRA of llama.cpp can say: DoRA, biases, and embeddings or a head where the base
    has one matrix for both.
    """
    check_can_be_lora(base, worn)
    together = weighted_sum([(updates_of(adapter), weight) for adapter, weight in worn])
    if not together:
        raise UsageError("nothing is left to export: every weight is 0", hint="give at least one adapter a weight")
    alpha = float(Counter(update.rank for update in together.values()).most_common(1)[0][0])
    metadata: dict[str, Value] = {
        "general.architecture": architecture(base.decoder.config),
        "general.type": "adapter",
        "general.name": name,
        "general.base_model.count": 1,
        "general.base_model.0.name": base.name,
        "general.file_type": _FILE_TYPES[type],
        "general.quantization_version": 2,
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }
    tensors = []
    for module, update in together.items():
        stored = tensor_name(module, base.decoder.config)
        for end, factor in _factors(module, update, alpha, base.decoder.config).items():
            tensors.append(_planned(f"{stored}.{end}", factor, type))
    write_gguf(path, metadata, tensors)


def check_can_be_lora(base: Base, worn: Worn) -> None:
    """Raise ``UsageError``, with the verb that solves it, for a stack that llama.cpp would get wrong or refuse."""
    hint = "fold it into the model instead: --to gguf"
    for adapter, _ in worn:
        if any(delta.magnitude is not None for delta in adapter.deltas.values()):
            raise UsageError(f"adapter {adapter.name!r} is a DoRA, which scales whole rows of the base", hint=hint)
        if any(delta.bias is not None for delta in adapter.deltas.values()):
            raise UsageError(f"adapter {adapter.name!r} has biases, which no LoRA of llama.cpp holds", hint=hint)
        for module in adapter.deltas:
            if base.decoder.config.tied and (module == "lm_head" or is_embedding(module)):
                raise UsageError(
                    f"adapter {adapter.name!r} changes {module}, and {base.name} has one matrix for embeddings and"
                    " head: llama.cpp would change both",
                    hint=hint,
                )


def _factors(module: str, update: Update, alpha: float, config: ModelConfig) -> Mapping[str, Floats]:
    """``lora_a`` and ``lora_b`` in the order and scale that llama.cpp wants."""
    order = row_order(module, update.shape[0], config)
    b = update.lora_B if order is None else update.lora_B[order]
    if update.rank != alpha:
        b = b * (update.rank / alpha)  # llama.cpp multiplies by alpha over this matrix's own rank
    a = update.lora_A.T if is_embedding(module) else update.lora_A
    return {"lora_a": a.contiguous().numpy(), "lora_b": b.contiguous().numpy()}


def _planned(name: str, factor: Floats, type: str) -> PlannedTensor:
    """Factors whose rows are not whole blocks (a rank of 16 is none) are kept in F16, as llama.cpp's converter does."""
    used = "F16" if type == "Q8_0" and factor.shape[-1] % 32 else type
    return PlannedTensor(name, used, factor.shape, lambda: [quantize(np.asarray(factor), used)])
