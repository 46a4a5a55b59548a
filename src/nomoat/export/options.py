"""The options of an export: flags and the reference page are drawn from here."""

from __future__ import annotations

import dataclasses

from nomoat.core.errors import UsageError
from nomoat.core.options import option

TARGETS = ("gguf-lora", "gguf", "hf", "peft", "ollama")
_MODEL_TYPES = ("Q4_K_M", "Q8_0", "Q6_K", "Q5_K_M", "Q4_0", "F16", "BF16", "F32")
_TYPES = {
    "gguf-lora": ("F32", "F16", "Q8_0"),
    "gguf": _MODEL_TYPES,
    "hf": ("", "F32", "F16", "BF16"),
    "peft": ("",),
    "ollama": _MODEL_TYPES,
}


@dataclasses.dataclass(frozen=True, slots=True)
class ExportOptions:
    """What goes where, and how near it has to be. Raises ``UsageError`` for values that make no sense."""

    model: str = option("", "a base and a stack: base+scribe:0.8+sql, or an adapter", metavar="STACK")
    to: str = option(
        "gguf",
        "gguf-lora: the stack as one LoRA file of llama.cpp's; gguf: base and stack in one file; hf: a merged Hugging"
        " Face folder; peft: the stack as one PEFT adapter; ollama: a Modelfile and what it needs",
        choices=TARGETS,
    )
    type: str = option(
        "",
        "gguf: Q4_K_M (else), Q8_0, Q6_K, Q5_K_M, Q4_0, F16, BF16, F32; ollama: the same, else a GGUF base is left as"
        " it is; gguf-lora: F32 (else), F16, Q8_0; hf: F32, F16, BF16, else as the base",
        metavar="TYPE",
    )
    out: str = option("", "the folder to write", metavar="PATH")
    name: str = option("", "write into the store instead (gguf, hf: a model; peft: an adapter)", metavar="NAME")
    rows: str = option(
        "",
        "conversations to check with, and to weigh the columns with: a data set or a file; else what the last adapter"
        " was trained on, else a few of ours",
        metavar="DATA",
    )
    conversations: int = option(32, "how many rows to check with", metavar="N")
    importance: bool = option(True, "weigh every column by what the rows send through it, for types below 8 bits")
    max_kl: float = option(0.0, "let pass this much KL in nats a token; 0: what the type is known for", metavar="NATS")
    llama_cpp: bool = option(True, "ask llama.cpp too, where xllamacpp is installed")
    replace: bool = option(False, "put what has that name aside")

    def __post_init__(self) -> None:
        if self.to in _TYPES and self.type and self.type not in _TYPES[self.to]:
            usable = ", ".join(type for type in _TYPES[self.to] if type)
            raise UsageError(
                f"--type {self.type} is none of --to {self.to}", hint=f"one of {usable}" if usable else "leave it out"
            )
        if bool(self.out) == bool(self.name):
            raise UsageError("say where it should go", hint="--out FOLDER, or --name NAME for the store")
        if self.name and self.to in ("gguf-lora", "ollama"):
            raise UsageError(f"the store has no place for --to {self.to}", hint="--out FOLDER")
        if self.conversations < 1:
            raise UsageError(f"--conversations cannot be {self.conversations}", hint="give 1 or more")
        if self.max_kl < 0:
            raise UsageError(f"--max-kl cannot be {self.max_kl:g}", hint="give 0 or more")

    @property
    def used_type(self) -> str:
        """``type``, or the first that the target has."""
        return self.type or _TYPES[self.to][0]
