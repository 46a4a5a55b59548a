"""Log-probabilities in the two shapes that OpenAI's APIs have. Values are natural logarithms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nomoat.model.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """A token, its log-probability (None for the first of a text), and the likeliest in its place, best first."""

    token: int
    logprob: float | None
    top: Sequence[tuple[int, float]] = ()


def chat_logprobs(tokenizer: Tokenizer, scored: Sequence[Scored]) -> dict[str, Any]:
    """``choices[].logprobs`` of a chat completion."""
    return {
        "content": [
            {
                **_entry(tokenizer, one.token, one.logprob or 0.0),
                "top_logprobs": [_entry(tokenizer, token, logprob) for token, logprob in one.top],
            }
            for one in scored
        ],
        "refusal": None,
    }


def completion_logprobs(tokenizer: Tokenizer, scored: Sequence[Scored], *, offset: int = 0) -> dict[str, Any]:
    """``choices[].logprobs`` of a completion. ``offset``: characters of the text before the first token."""
    tokens = [token_name(tokenizer, one.token) for one in scored]
    offsets = []
    for one in scored:
        offsets.append(offset)
        offset += len(tokenizer.token_text(one.token).decode("utf-8", "replace"))
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in scored],
        "top_logprobs": [
            None if one.logprob is None else {token_name(tokenizer, token): value for token, value in one.top}
            for one in scored
        ],
        "text_offset": offsets,
    }


def token_name(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; ``bytes:\\xe2\\x82`` for a part of a character, so that no two look alike."""
    data = tokenizer.token_text(token)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _entry(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    return {
        "token": token_name(tokenizer, token),
        "logprob": max(logprob, -9999.0),  # JSON has no infinity; OpenAI's own floor
        "bytes": list(tokenizer.token_text(token)),
    }
