"""The parity receipt: before an export is called done, what it says is compared with what was trained.

Tokens first (``tokens.py``), then predictions in our engine (``logits.py``), then llama.cpp itself where it is
installed (``llama_cpp.py``). What does not agree raises ``ParityMismatch``, and nothing is left on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import Any

from nomoat.core.records import Note, Record
from nomoat.export.checked_rows import CheckedRows
from nomoat.export.llama_cpp import Chat, LlamaCppReceipt, Loaded, check_llama_cpp, installed
from nomoat.export.logits import BOUNDS, Bound, Damage, measure_damage
from nomoat.export.options import ExportOptions
from nomoat.export.tokens import Runtime, TokenReceipt, check_tokens
from nomoat.model.adapters import adaptable
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.model.template import prompt_ids

_FLOATS = ("F32", "F16", "BF16")
# llama.cpp rounds activations to 8 bits before it multiplies with blocks; we do not. That is its own, small noise.
_LLAMA_CPP = {True: Bound(0.01, 0.97), False: Bound(0.1, 0.85)}
_LLAMA_CPP_PROMPTS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """What was written, opened again: a base and the stack that it wears, and what llama.cpp is to load (None: it
    cannot)."""

    base: Base
    stack: Stack
    runtime: Runtime
    type: str
    model: Path | None = None
    lora: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """All that was compared, with its bounds; stored in ``nomoat.json`` beside the artefact."""

    rows: str
    tokens: TokenReceipt | None
    damage: Damage
    bound: Bound
    llama_cpp: LlamaCppReceipt | None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)


def check_parity(
    trained: tuple[Base, Stack], exported: Exported, rows: CheckedRows, options: ExportOptions
) -> Generator[Record, None, Receipt]:
    """Compare in every way there is. Raises ``ParityMismatch`` at the first difference."""
    tokens = check_tokens(trained[0], exported.runtime, rows.conversations) if rows.conversations else None
    if tokens is None:
        yield Note(f"{rows.source} holds no conversations: the chat template is not checked", warning=True)
    bound = Bound(options.max_kl, 0.0) if options.max_kl else BOUNDS[exported.type]
    damage = yield from measure_damage(trained, (exported.base, exported.stack), rows.ids)
    damage.check(bound, f"the exported {exported.type}")
    told = None
    if exported.model is not None and options.llama_cpp and installed():
        told = _ask_llama_cpp(trained, exported, rows)
    elif exported.model is not None and options.llama_cpp:
        yield Note("llama.cpp was not asked: xllamacpp is not installed (pip install xllamacpp)")
    return Receipt(rows.source, tokens, damage, bound, told)


def _ask_llama_cpp(trained: tuple[Base, Stack], exported: Exported, rows: CheckedRows) -> LlamaCppReceipt | None:
    """Prompts against training; predictions against the file in our engine, so that only the reading of it counts."""
    assert exported.model is not None
    exact = all(weight.type in _FLOATS for weight in adaptable(exported.base.decoder).values())
    bound = _LLAMA_CPP[exact]
    base, apart = trained[0], exported.lora is not None and trained[0].template.kind != "base"
    chats = [
        Chat(messages[:-1], prompt_ids(base.tokenizer, base.template, messages[:-1]))
        for messages in rows.conversations[:_LLAMA_CPP_PROMPTS]
    ]
    return check_llama_cpp(
        Loaded(exported.model, exported.lora, base.template.source if apart else ""),
        (exported.base, exported.stack),
        rows.prompts[:_LLAMA_CPP_PROMPTS],
        bound,
        chats,
    )
