"""Rows of a run as token ids, with an account of every row that did not go in whole."""

from __future__ import annotations

import array
import hashlib
from collections.abc import Generator, Iterator
from pathlib import Path

from nomoat.core.amounts import counted
from nomoat.core.errors import DataError
from nomoat.core.records import Note, Progress, Record
from nomoat.data.encode import EncodedSet, EncodeOptions, encode_rows
from nomoat.data.general import general_rows
from nomoat.data.load import load_rows
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.options import TuneOptions
from nomoat.train.reward import PAIR, encode_pairs


def encode_splits(
    options: TuneOptions, folder: Path, base: Base
) -> Generator[Record, None, tuple[EncodedSet, list[Encoded]]]:
    """The training rows, and the held-out rows that choose the checkpoint."""
    longest = base.decoder.config.max_seq_len
    if longest < options.max_seq_len:
        yield Note(f"{base.name} reads at most {longest:,} tokens, so --max-seq-len is {longest}")
    how = EncodeOptions(
        max_seq_len=min(longest, options.max_seq_len),
        over_length=options.over_length,
        loss=options.loss,
        chat=options.chat,
    )
    yield Progress("encoding rows", 0, None)
    rows = _encoded(options, folder, "train", base, how)
    yield from _account(rows, "train")
    if not rows.rows:
        raise DataError(
            "no row is left to learn from", file=folder / "train.jsonl", hint=f"nomoat data show {folder.name}"
        )
    if not options.eval_rows:
        return rows, []
    held_out = _encoded(options, folder, "valid", base, how)
    yield from _account(held_out, "valid")
    if not held_out.rows:
        yield Note("no row is held out, so the last checkpoint is taken, not the best", warning=True)
    most = options.eval_rows if options.method == "sft" else PAIR * options.eval_rows
    return rows, held_out.rows[:most]  # windows of long texts count too


def _encoded(options: TuneOptions, folder: Path, split: str, base: Base, how: EncodeOptions) -> EncodedSet:
    if options.method != "sft":
        return encode_pairs(folder, split, base, how.max_seq_len)
    rows = load_rows(folder, split)[: options.eval_rows if split == "valid" else None]
    return encode_rows(rows, base.tokenizer, base.template, how)


def rehearsed_rows(options: TuneOptions, base: Base) -> list[Encoded]:
    """General rows; those longer than ``max_seq_len`` are left out."""
    if not options.rehearse:
        return []
    longest = min(base.decoder.config.max_seq_len, options.max_seq_len)
    rows = general_rows(options.rehearse, seed=options.seed)
    return encode_rows(rows, base.tokenizer, base.template, EncodeOptions(max_seq_len=longest)).rows


def _account(encoded: EncodedSet, split: str) -> Iterator[Note]:
    """Every row that did not go in whole is said."""
    for reason, count in encoded.dropped.items():
        yield Note(f"{split}: dropped {counted(count, 'row')}: {reason}", warning=True)
    if encoded.truncated:
        yield Note(f"{split}: cut {counted(encoded.truncated, 'answer')} at the end", warning=True)
    if encoded.windowed:
        yield Note(f"{split}: cut {counted(encoded.windowed, 'long text')} into windows")


def hash_rows(rows: list[Encoded]) -> str:
    """Over ids and masks: another tokenizer, template or encoding shows here, though base and data are the same."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(array.array("q", row.ids).tobytes() + bytes(row.loss_mask))
    return digest.hexdigest()
