"""What a model's own header says of it, read without loading the weights."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

from nomoat.core.errors import FormatError, UnsupportedType
from nomoat.formats.blocks import TYPES
from nomoat.formats.gguf import GgufFile
from nomoat.formats.hf import read_config
from nomoat.formats.safetensors import SafetensorsFolder
from nomoat.formats.weights import Weights
from nomoat.hub import licences

# general.file_type of the GGUF specification (ggml-org/ggml, docs/gguf.md), the types that we read.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """``quantization`` is the file's own label, else the type of most of its bytes."""

    architecture: str
    title: str
    quantization: str
    parameters: int
    context_length: int | None
    licence: str
    has_chat_template: bool


def read_facts(path: Path) -> ModelFacts:
    """Open a GGUF file or a Hugging Face folder and describe it. Raises ``FormatError`` if it is damaged."""
    return _folder_facts(path) if path.is_dir() else _gguf_facts(path)


def _gguf_facts(path: Path) -> ModelFacts:
    gguf = GgufFile.open(path)
    _refuse_unreadable(gguf)
    metadata = gguf.metadata
    architecture = str(metadata.get("general.architecture", ""))
    label = metadata.get("general.file_type")
    context = metadata.get(f"{architecture}.context_length")
    return ModelFacts(
        architecture=architecture,
        title=str(metadata.get("general.name", "")),
        quantization=_FILE_TYPES.get(label, "") if isinstance(label, int) else _main_type(gguf),
        parameters=_parameters(gguf),
        context_length=context if isinstance(context, int) else None,
        licence=licences.readable(str(metadata.get("general.license", ""))),
        has_chat_template="tokenizer.chat_template" in metadata,
    )


def _folder_facts(path: Path) -> ModelFacts:
    config = read_config(path)
    weights = SafetensorsFolder.open(path)
    _refuse_unreadable(weights)
    context = config.get("max_position_embeddings")
    return ModelFacts(
        architecture=str(config.get("model_type", "")),
        title=path.name,
        quantization=_main_type(weights),
        parameters=_parameters(weights),
        context_length=context if isinstance(context, int) else None,
        licence="",
        has_chat_template=(path / "chat_template.jinja").is_file() or _template_in_config(path),
    )


def _parameters(weights: Weights) -> int:
    return sum(math.prod(weights.shape(name)) for name in weights.names())


def _main_type(weights: Weights) -> str:
    """The stored type of most of the weights."""
    amounts: Counter[str] = Counter()
    for name in weights.names():
        amounts[weights.type(name)] += math.prod(weights.shape(name))
    return amounts.most_common(1)[0][0] if amounts else ""


def _refuse_unreadable(weights: Weights) -> None:
    """Said when the base is pulled, not when the evening has begun."""
    if not weights.names():
        raise FormatError("holds no weights", file=weights.path)
    for name in weights.names():
        if weights.type(name) not in TYPES:
            raise UnsupportedType(
                f"tensor {name!r} is stored as {weights.type(name)}, which nomoat does not read",
                file=weights.path,
                hint="take another quantization of the model: Q4_K_M and Q8_0 always work",
            )


def _template_in_config(path: Path) -> bool:
    config = path / "tokenizer_config.json"
    return config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8", errors="replace")
