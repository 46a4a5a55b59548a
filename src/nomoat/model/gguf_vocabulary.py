"""The ``tokenizer.ggml.*`` keys of a GGUF file, checked, as one plain record.

Keys: docs/gguf.md of the ggml repository; defaults where a key is missing as in llama.cpp (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nomoat.core.errors import BadHeader, UnsupportedType

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
KINDS = ("gpt2", "llama")

Numbers: TypeAlias = npt.NDArray[Any]

# Turn ends that some converters wrote down as ordinary or user-defined tokens; llama.cpp overrides them as well.
# "</s>" is not among them: in Gemma's vocabulary it is an HTML tag.
TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_turn|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<turn|>",
    "[EOT]",
    "<EOT>",
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``kind``: "gpt2" (byte-level BPE, has ``merges``) or "llama" (SentencePiece, has ``scores``)."""

    kind: str
    pre: str
    tokens: list[str]
    numbers: dict[str, int]  # token -> id
    types: Numbers
    scores: Numbers
    merges: list[str]
    ids: dict[str, int]  # "bos", "eos", "eot", "eom", "unk", "pad" where the file names them
    add_bos: bool | None
    add_space_prefix: bool
    strips_after_specials: bool  # Phi-3: white space after a special token goes with it

    def of_type(self, *types: int) -> dict[str, int]:
        """Token -> id of those types, by id."""
        return {self.tokens[i]: i for i in np.isin(self.types, types).nonzero()[0].tolist()}


def read_vocabulary(metadata: Mapping[str, Any], source: Path | str) -> Vocabulary:
    """Read and check. Raises ``BadHeader`` for what cannot be true, ``UnsupportedType`` for other kinds."""
    keys = _Keys(metadata, source)
    kind = keys.text("tokenizer.ggml.model")
    if kind not in KINDS:
        raise UnsupportedType(
            f"tokenizer kind {kind!r} (tokenizer.ggml.model) is not one of {', '.join(KINDS)}",
            file=source,
            hint="use the model's Hugging Face folder, which brings its own tokenizer.json",
        )
    tokens, numbers = _distinct(keys)
    n = len(tokens)
    types = keys.numbers("tokenizer.ggml.token_type", n)
    scores = keys.numbers("tokenizer.ggml.scores", n)
    if kind == "llama" and scores is None:
        raise keys.bad("tokenizer.ggml.scores is missing")
    ids = {
        name: keys.token_id(f"tokenizer.ggml.{key}_token_id", n, optional=name not in ("bos", "eos"))
        for name, key in (
            ("bos", "bos"),
            ("eos", "eos"),
            ("eot", "eot"),
            ("eom", "eom"),
            ("unk", "unknown"),
            ("pad", "padding"),
        )
    }
    return Vocabulary(
        kind=kind,
        pre=keys.text("tokenizer.ggml.pre", default=""),
        tokens=tokens,
        numbers=numbers,
        types=_settled(numbers, types),
        scores=np.zeros(n) if scores is None else scores,
        merges=keys.texts("tokenizer.ggml.merges") if kind == "gpt2" else [],
        ids=_with_defaults({name: i for name, i in ids.items() if i is not None}, kind, n),
        add_bos=keys.truth("tokenizer.ggml.add_bos_token"),
        add_space_prefix=keys.truth("tokenizer.ggml.add_space_prefix") is not False and kind == "llama",
        strips_after_specials=_is_phi3(keys.text("general.name", default="")),
    )


def _distinct(keys: _Keys) -> tuple[list[str], dict[str, int]]:
    tokens = keys.texts("tokenizer.ggml.tokens")
    if not tokens:
        raise keys.bad("the vocabulary (tokenizer.ggml.tokens) is empty")
    numbers = dict(zip(tokens, range(len(tokens)), strict=True))
    if "" in numbers:
        tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
        numbers = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(numbers) != len(tokens):
        first = next(i for i, token in enumerate(tokens) if numbers[token] != i)
        again = numbers[tokens[first]]
        raise keys.bad(f"token {tokens[first]!r} stands in the vocabulary twice, as {first} and as {again}")
    return tokens, numbers


def _settled(numbers: dict[str, int], types: Numbers | None) -> Numbers:
    """Token types with the turn ends made control tokens."""
    settled = np.full(len(numbers), NORMAL) if types is None else types.astype(np.int64)
    for end in TURN_ENDS:
        token = numbers.get(end)
        if token is not None and settled[token] in (NORMAL, USER_DEFINED):
            settled[token] = CONTROL
    return settled


def _with_defaults(ids: dict[str, int], kind: str, n: int) -> dict[str, int]:
    if kind == "llama":
        for name, i in (("unk", 0), ("bos", 1), ("eos", 2)):
            if i < n:
                ids.setdefault(name, i)
    return ids


def _is_phi3(model_name: str) -> bool:
    return any(name in model_name.lower() for name in ("phi-3", "phi3"))


class _Keys:
    """Typed access to metadata; every error names the key and the file."""

    def __init__(self, metadata: Mapping[str, Any], source: Path | str) -> None:
        self._metadata, self._source = metadata, source

    def bad(self, message: str) -> BadHeader:
        return BadHeader(message, file=self._source, hint="download or convert the file again")

    def text(self, key: str, *, default: str | None = None) -> str:
        value = self._metadata.get(key, default)
        if not isinstance(value, str):
            raise self.bad(f"{key} is missing" if value is None else f"{key} is not a string")
        return value

    def texts(self, key: str) -> list[str]:
        value = self._metadata.get(key)
        if not isinstance(value, list) or not set(map(type, value)) <= {str}:
            raise self.bad(f"{key} is missing" if value is None else f"{key} is not an array of strings")
        return value

    def numbers(self, key: str, n: int) -> Numbers | None:
        """The first ``n`` numbers of an array, None where there is no such key."""
        value = self._metadata.get(key)
        if value is None:
            return None
        array: Numbers = np.asarray(value if isinstance(value, (list, np.ndarray)) else None)
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise self.bad(f"{key} is not an array of numbers")
        if len(array) < n:
            raise self.bad(f"{key} has {len(array)} entries for {n} tokens")
        if array.dtype.kind == "f" and not np.isfinite(array[:n]).all():
            raise self.bad(f"{key} holds a number that is not finite")
        return array[:n]

    def token_id(self, key: str, n: int, *, optional: bool) -> int | None:
        value = self._metadata.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(f"{key} is not a number")
        if 0 <= value < n:
            return value
        if optional:
            return None  # converters write -1 for "there is none"
        raise self.bad(f"{key} is {value}, the vocabulary has {n} tokens")

    def truth(self, key: str) -> bool | None:
        value = self._metadata.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.bad(f"{key} is not true or false")
        return value
