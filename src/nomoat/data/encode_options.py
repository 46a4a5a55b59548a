"""How rows become tokens, as options; apart from the work itself so that ``--help`` imports nothing heavy."""

from __future__ import annotations

import dataclasses

from nomoat.core.options import option


@dataclasses.dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How rows become tokens."""

    max_seq_len: int = option(1024, "longest row in tokens")
    over_length: str = option("drop", "what to do with a longer row", choices=("drop", "truncate", "raise"))
    loss: str = option("completion", "learn the answers only, or everything", choices=("completion", "all"))
    chat: str = option("auto", "prompt/completion rows: as a chat, or raw one after the other", choices=("auto", "raw"))
