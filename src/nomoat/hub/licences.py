"""Licence identifiers, as hub cards and GGUF metadata write them, to what a person reads."""

from __future__ import annotations

UNKNOWN = "unknown"

# https://huggingface.co/docs/hub/repositories-licenses lists the identifiers.
_READABLE = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "gemma": "Gemma Terms of Use",
    "llama2": "Llama 2 Community License",
    "llama3": "Llama 3 Community License",
    "llama3.1": "Llama 3.1 Community License",
    "llama3.2": "Llama 3.2 Community License",
    "llama3.3": "Llama 3.3 Community License",
}
_VAGUE = frozenset({"", "other", "unknown", "none"})


def readable(identifier: str) -> str:
    """``apache-2.0`` to ``Apache-2.0``; an identifier that says nothing (``other``) to ``""``."""
    word = identifier.strip()
    if word.lower() in _VAGUE:
        return ""
    return _READABLE.get(word.lower(), word)


def same(one: str, other: str) -> bool:
    """Whether two identifiers mean one licence."""
    return readable(one).casefold() == readable(other).casefold()
