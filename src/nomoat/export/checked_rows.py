"""What an export is checked with: the user's conversations, as messages and as tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store
from nomoat.data.encode import encode_rows, messages_of
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.rows import Row
from nomoat.engine.names import Worn
from nomoat.judge.task import data_of, encoding_of, held_out, prompt_of
from nomoat.model.load import Base
from nomoat.model.template import Encoded

LONGEST = 1024

_OURS = (
    ("What is the capital of France?", "Paris."),
    ("Write a haiku about rain.", "Rain on the tin roof,\na cat counts drops and sleeps –\nmorning smells of earth."),
    ("def add(a, b):", "    return a + b"),
    ("  Übersetze ins Deutsche: \"The weather is nice.\"\n", "Das Wetter ist schön."),
    ("List three colours.", "1. red\n2. green\n3. blue"),
    ("2 + 2 = ?", "4"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedRows:
    """``conversations`` end with the assistant and use no tools; ``encoded`` are all rows, as training encodes them."""

    source: str
    conversations: tuple[Sequence[dict[str, Any]], ...]
    encoded: tuple[Encoded, ...]

    @property
    def ids(self) -> list[list[int]]:
        """All rows as token ids."""
        return [row.ids for row in self.encoded]

    @property
    def prompts(self) -> list[list[int]]:
        """What answers go on from; a text is cut in its middle."""
        return [prompt_of(row) or row.ids[: max(1, len(row.ids) // 2)] for row in self.encoded]


def rows_to_check(store: Store, base: Base, worn: Worn, data: str, limit: int) -> CheckedRows:
    """Rows of ``data``; without it those that the last adapter was trained on, or a few of ours.

    Raises ``UsageError`` where not one row can be used.
    """
    rows, source = _rows(store, worn, data, limit)
    found = encoding_of(store, base, worn)
    options = EncodeOptions(min(LONGEST, found.max_seq_len), "truncate", chat=found.chat)
    encoded = encode_rows(rows, base.tokenizer, base.template, options).rows[: 4 * limit]
    if not encoded:
        raise UsageError(f"not one row of {source} can be used to check with", hint="--rows DATA")
    talks = tuple(messages_of(row) for row in rows if _is_conversation(row) and options.chat != "raw")
    return CheckedRows(source, talks, tuple(encoded))


def _rows(store: Store, worn: Worn, data: str, limit: int) -> tuple[list[Row], str]:
    try:
        found = held_out(store, data or data_of(store, worn), limit)
    except (UsageError, NotFound):
        if data:
            raise
        return [{"prompt": asked, "completion": answer} for asked, answer in _OURS[:limit]], "conversations of ours"
    return found.rows, found.name


def _is_conversation(row: Row) -> bool:
    if "text" in row or "tools" in row:
        return False
    last = messages_of(row)[-1]
    return bool(last["role"] == "assistant" and last.get("content"))
