"""Rows to token ids and a loss mask, with an account of every row that did not go in whole.

Conversations go through the chat template. A prompt/completion row is one user and one assistant message, or, with
``chat="raw"``, the prompt's ids and then the completion's: the two are tokenized apart, so no token spans the boundary
and the prompt's ids are those that generation will start from; the end token follows and is learned. A text row is its
ids as they are, control tokens included, and the end token, all learned.

What is longer than ``max_seq_len``:

- a text is always cut into windows of about equal length, each beginning with the last token of the one before
  (and BOS where the base uses it), so that every token is learned once;
- any other row is dropped, or refused (``raise``), or cut (``truncate``) at the end, where each token that stays sees
  exactly the context it has in the whole row. The end of the answer goes, so no stop token is taught at a cut; a row
  whose prompt leaves no room for at least 8 tokens of answer is dropped all the same.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nomoat.core.errors import DataError, TemplateError, UsageError
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.report import Histogram, histogram
from nomoat.data.rows import Row
from nomoat.model.template import ChatTemplate, Encoded, encode_chat
from nomoat.model.tokenizer import Tokenizer

__all__ = [
    "MIN_ANSWER_TOKENS",
    "EncodeOptions",
    "EncodedSet",
    "encode_row",
    "encode_rows",
    "measure",
    "messages_of",
    "raw_prompt_ids",
    "windows",
]

MIN_ANSWER_TOKENS = 8
_SHORTEST = 16


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedSet:
    """Encoded rows; ``sources[i]`` is the number of the row that ``rows[i]`` came from.

    ``histogram`` is of the lengths before anything was cut or dropped.
    """

    rows: list[Encoded]
    sources: list[int]
    dropped: dict[str, int]
    truncated: int
    windowed: int
    histogram: Histogram

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def learned(self) -> int:
        """Tokens with a loss: the first of a row has none."""
        return sum(sum(row.loss_mask[1:]) for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The account without the ids."""
        return {
            "rows": len(self.rows),
            "tokens": self.tokens,
            "learned_tokens": self.learned,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "windowed": self.windowed,
            "histogram": self.histogram,
        }


def encode_rows(
    rows: Sequence[Row], tokenizer: Tokenizer, template: ChatTemplate, options: EncodeOptions
) -> EncodedSet:
    """Encode every row under the over-length policy.

    Raises ``DataError`` for an over-long row with ``over_length="raise"``, ``TemplateError`` with the row's number
    where the template refuses a conversation.
    """
    if options.max_seq_len < _SHORTEST:
        raise UsageError(f"--max-seq-len {options.max_seq_len} is less than {_SHORTEST}")
    encoded, sources, lengths = [], [], []
    dropped: Counter[str] = Counter()
    truncated = windowed = 0
    for number, row in enumerate(rows):
        whole = encode_row(row, tokenizer, template, options, number=number)
        lengths.append(len(whole.ids))
        if len(whole.ids) <= options.max_seq_len:
            parts = [whole]
        elif "text" in row:
            parts = windows(whole, options.max_seq_len, tokenizer)
            windowed += 1
        else:
            parts = _fit(whole, options, number)
            truncated += len(parts)
        parts = [part for part in parts if any(part.loss_mask[1:])]
        if not parts:
            dropped[_reason(whole, options)] += 1
        encoded += parts
        sources += [number] * len(parts)
    return EncodedSet(encoded, sources, dict(dropped), truncated, windowed, histogram(lengths))


def encode_row(
    row: Row, tokenizer: Tokenizer, template: ChatTemplate, options: EncodeOptions, *, number: int = 0
) -> Encoded:
    """One whole row, however long."""
    if "text" in row:
        return _text(row["text"], tokenizer)
    if "prompt" in row and options.chat == "raw":
        encoded = _raw(row, tokenizer)
    else:
        try:
            encoded = encode_chat(tokenizer, template, messages_of(row), tools=row.get("tools"))
        except TemplateError as error:
            raise TemplateError(f"row {number + 1}: {error.message}", hint=error.hint) from error
    if options.loss == "all":
        return Encoded(ids=encoded.ids, loss_mask=[True] * len(encoded.ids))
    return encoded


def messages_of(row: Row) -> list[dict[str, Any]]:
    """The row as a conversation."""
    if "messages" in row:
        return list(row["messages"])
    return [
        {"role": "user", "content": row["prompt"]},
        {"role": "assistant", "content": row["completion"]},
    ]


def raw_prompt_ids(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """What generation starts from when rows were encoded raw."""
    return _begin(tokenizer.encode(prompt), tokenizer)


def _raw(row: Row, tokenizer: Tokenizer) -> Encoded:
    prompt = raw_prompt_ids(row["prompt"], tokenizer)
    answer = _end(tokenizer.encode(row["completion"]), tokenizer)
    return Encoded(ids=prompt + answer, loss_mask=[False] * len(prompt) + [True] * len(answer))


def _text(text: str, tokenizer: Tokenizer) -> Encoded:
    ids = _end(_begin(tokenizer.encode(text), tokenizer), tokenizer)
    return Encoded(ids=ids, loss_mask=[True] * len(ids))


def _begin(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """With BOS in front where the base wants it and the text does not bring it."""
    bos = tokenizer.bos_id
    if not tokenizer.adds_bos or bos is None or ids[:1] == [bos]:
        return ids
    return [bos, *ids]


def _end(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """With the end token, where the base has one and the text does not bring it."""
    eos = tokenizer.eos_id
    return ids if eos is None or ids[-1:] == [eos] else [*ids, eos]


def windows(whole: Encoded, max_seq_len: int, tokenizer: Tokenizer) -> list[Encoded]:
    """Cut a text that is all learned into windows of about equal length; each token is learned in one of them."""
    bos = whole.ids[:1] if tokenizer.adds_bos and whole.ids[:1] == [tokenizer.bos_id] else []
    body = whole.ids[len(bos) :]
    room = max_seq_len - len(bos) - 1  # new tokens a window; one place is for the token carried over
    count = -(-len(body) // room)
    cuts = [len(body) * index // count for index in range(count + 1)]
    cut = []
    for begin, end in itertools.pairwise(cuts):
        carried = body[begin - 1 : begin] if begin else []
        known = bos + carried
        ids = known + body[begin:end]
        cut.append(Encoded(ids=ids, loss_mask=[False] * len(known) + [True] * (end - begin)))
    return cut


def _fit(whole: Encoded, options: EncodeOptions, number: int) -> list[Encoded]:
    """The row as the policy leaves it: one row or none."""
    limit = options.max_seq_len
    if options.over_length == "raise":
        raise DataError(
            f"row {number + 1} has {len(whole.ids):,} tokens, more than {limit:,}",
            hint="--over-length drop, or a larger --max-seq-len",
        )
    if options.over_length == "drop" or sum(whole.loss_mask[:limit]) < MIN_ANSWER_TOKENS:
        return []
    return [Encoded(ids=whole.ids[:limit], loss_mask=whole.loss_mask[:limit])]


def _reason(whole: Encoded, options: EncodeOptions) -> str:
    if len(whole.ids) <= options.max_seq_len:
        return "nothing to learn"
    if options.over_length == "truncate":
        return f"prompt longer than {options.max_seq_len} tokens"
    return f"longer than {options.max_seq_len} tokens"


def measure(rows: Sequence[Row], base: str, tokenizer: Tokenizer, template: ChatTemplate) -> dict[str, Any]:
    """Token counts of whole rows, for the report of ``data add``."""
    options = EncodeOptions()
    lengths = [len(encode_row(row, tokenizer, template, options, number=number).ids) for number, row in enumerate(rows)]
    return {
        "base": base,
        "total": sum(lengths),
        "longest": max(lengths, default=0),
        "histogram": histogram(lengths),
    }
