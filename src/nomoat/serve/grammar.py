"""Answers of a certain form: a JSON schema or a regular expression becomes the set of tokens that may come next.

llguidance does it (an Earley parser over derivatives of regular expressions; Rust, MIT, no dependencies, one wheel per
system). It has no compile step that could explode; what is left is bounded by its limits, which count work and not
time, and by the size of what may be asked. Whatever passes a bound is a 400.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from torch import Tensor

from nomoat.model.tokenizer import Tokenizer
from nomoat.serve.errors import RequestError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_SCHEMA_CHARS = 64 << 10
MAX_REGEX_CHARS = 2048
MAX_DEPTH = 64
MAX_COUNT = 10_000  # of items, characters or properties that a schema may ask for
MAX_MEETING = 8
_JSON: JsonCompileOptions = {"whitespace_pattern": r"( |\n {0,8})?", "coerce_one_of": True}
_JOINTS = frozenset(("$ref", "anyOf", "oneOf"))
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


class Grammar:
    """Which tokens may follow an answer so far. One per answer: it remembers how far it has read."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher, self._vocab_size, self._read = matcher, vocab_size, 0

    def allowed(self, output: Sequence[int]) -> Tensor:
        """A mask (V,) of the tokens that may come after ``output``, an end of turn once the form is complete.

        Raises ``RequestError`` when a step would take more work than the limits give.
        """
        for token in output[self._read :]:
            self._matcher.consume_token(token)
        self._read = len(output)
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise _refused(self._matcher.get_error())
        bits = np.unpackbits(packed, bitorder="little")[: self._vocab_size]
        mask = torch.zeros(self._vocab_size, dtype=torch.bool)
        mask[: bits.shape[0]] = torch.from_numpy(bits).bool()
        return mask

    def copy(self) -> Grammar:
        """The same form for another answer."""
        return Grammar(self._matcher.deep_copy(), self._vocab_size)


class Grammars:
    """Makes grammars for one tokenizer. ``vocab_size``: rows of the model's head, which may be more than its words."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._words: LLTokenizer | None = None
        self._lock = threading.Lock()

    def json_schema(self, schema: dict[str, Any] | bool) -> Grammar:
        """Answers that are JSON of this schema (true: of any). Raises ``RequestError`` for what cannot be kept."""
        schema = {} if schema is True else {"not": {}} if schema is False else schema
        text = json.dumps(schema)
        if len(text) > MAX_SCHEMA_CHARS:
            raise RequestError(f"the schema has more than {MAX_SCHEMA_CHARS >> 10} KiB", code="schema_too_large")
        _check_schema(schema)
        try:
            return self._grammar(LLMatcher.grammar_from_json_schema(text, defaults=_JSON))
        except ValueError as error:
            raise _refused(str(error)) from None

    def regex(self, pattern: str) -> Grammar:
        """Answers that match the whole pattern. Raises ``RequestError`` for what cannot be kept."""
        if len(pattern) > MAX_REGEX_CHARS:
            raise RequestError(
                f"the regular expression has more than {MAX_REGEX_CHARS:,} characters", code="regex_too_large"
            )
        return self._grammar(LLMatcher.grammar_from_regex(pattern))

    def choice(self, texts: Sequence[str]) -> Grammar:
        """Answers that are one of the texts."""
        if not texts or sum(map(len, texts)) > MAX_SCHEMA_CHARS:
            raise RequestError("'choice' needs one text or more, and not too many", code="invalid_value")
        # Spelled as a Lark rule: JSON strings are its literals too.
        rule = " | ".join(json.dumps(text) for text in texts)
        return self._grammar(LLMatcher.grammar_from_lark(f"start: {rule}"))

    def _grammar(self, source: str) -> Grammar:
        matcher = LLMatcher(self._vocabulary(), source, limits=_limits(), log_level=0)
        if matcher.is_error():
            raise _refused(matcher.get_error())
        matcher.compute_bitmask()  # the first step is the dearest: refuse now rather than in the middle of a batch
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return Grammar(matcher, self._vocab_size)

    def _vocabulary(self) -> LLTokenizer:
        with self._lock:
            if self._words is None:
                ends = sorted(self._tokenizer.eos_ids)
                if not ends:
                    raise RequestError("this base has no end-of-turn token, so a form has no end")
                wrapped = TokenizerWrapper(_Words(self._tokenizer, ends[0]))
                self._words = LLTokenizer(wrapped, n_vocab=self._tokenizer.vocab_size, eos_token=ends)
            return self._words


class _Words:
    """Our tokenizer as llguidance reads one."""

    def __init__(self, tokenizer: Tokenizer, eos: int) -> None:
        control = frozenset(tokenizer.specials.values()) | tokenizer.eos_ids
        self.eos_token_id, self.bos_token_id = eos, tokenizer.bos_id
        self.special_token_ids = sorted(control)
        self.tokens = [tokenizer.token_text(token) for token in range(tokenizer.vocab_size)]
        self._encode = tokenizer.encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"), specials=False)


def _limits() -> LLParserLimits:
    """Work that a grammar may cost: some 10 ms to begin with and 10 ms a token."""
    return LLParserLimits(
        max_items_in_row=500,
        initial_lexer_fuel=200_000,
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )


def _refused(reason: str) -> RequestError:
    first = reason.strip().splitlines()[0][:300] if reason.strip() else "it is not understood"
    return RequestError(f"the form of the answer cannot be kept: {first}", code="invalid_constraint")


def _check_schema(schema: dict[str, Any]) -> None:
    """Raise ``RequestError`` for a schema that is too deep, counts too far, or makes many patterns meet.

    Patterns that must all hold (``allOf``, or one beside a reference or a choice) multiply: the work doubles with
    each, in a place where no limit counts it.
    """
    level: list[Any] = [schema]
    patterns, meet = 0, False
    for _ in range(MAX_DEPTH):
        for one in level:
            patterns += _check_node(one)
            meet = meet or (
                isinstance(one, dict) and ("allOf" in one or ("pattern" in one and not _JOINTS.isdisjoint(one)))
            )
        if meet and patterns > MAX_MEETING:
            raise RequestError(f"patterns that must hold together are {MAX_MEETING} at most", code="schema_too_large")
        level = [child for one in level for child in _children(one)]
        if not level:
            return
    raise RequestError(f"the schema is nested deeper than {MAX_DEPTH} levels", code="schema_too_large")


def _check_node(one: Any) -> int:
    """How many patterns a part of a schema brings."""
    if not isinstance(one, dict):
        return 0
    for key in _COUNTS:
        if isinstance(one.get(key), (int, float)) and one[key] > MAX_COUNT:
            raise RequestError(f"{key}: a schema counts to {MAX_COUNT:,} at most", code="schema_too_large")
    if isinstance(one.get("pattern"), str) and len(one["pattern"]) > MAX_REGEX_CHARS:
        raise RequestError(f"a pattern has {MAX_REGEX_CHARS:,} characters at most", code="regex_too_large")
    return sum(key in one for key in ("pattern", "format", "patternProperties"))


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
