"""What the old stack thought of rows, for a student that cuts the same text into the same tokens, or into others."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence

from nomoat.core.records import Note, Progress, Record
from nomoat.data.encode import encode_row
from nomoat.data.rows import Row
from nomoat.engine.likeliest import likeliest
from nomoat.kernels.divergence import Target
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.move.alignment import Alignment
from nomoat.move.relocation import Relocation


@dataclasses.dataclass(frozen=True, slots=True)
class Thought:
    """A row as the student reads it, and what the old stack thought of each token that is learned.

    ``number``: which of the rows that were given. The target is kept small: int32 and float16.
    """

    number: int
    student: Encoded
    target: Target


def thoughts(moving: Relocation, rows: Sequence[Row]) -> Generator[Record, None, list[Thought]]:
    """Score the rows with the old stack; rows that both bases do not read alike are left out, and said."""
    pairs = list(_pairs(moving, rows))
    if len(pairs) < len(rows):
        missing = len(rows) - len(pairs)
        most = moving.options.max_seq_len
        yield Note(
            f"left out {missing:,} of {len(rows):,} rows: longer than {most:,} tokens, or read differently by "
            f"{moving.old.name} and {moving.new.name}",
            warning=True,
        )
    found: list[Thought] = []
    teacher = [old for _, old, _ in pairs]
    alignment = Alignment(moving.old.tokenizer, moving.new.tokenizer) if moving.learn == "aligned" else None
    vocabulary = None if alignment is not None else moving.new.decoder.config.vocab_size
    for targets in likeliest(moving.old, teacher, moving.worn, k=moving.options.top_k, vocabulary=vocabulary):
        for target in targets:
            number, old, student = pairs[len(found)]
            if alignment is not None:
                target = alignment.target(old, student, target)
            found.append(Thought(number, student, Target(target.ids.int(), target.logprobs.half())))
        yield Progress("what the old stack thinks", len(found), len(pairs), "rows")
    if alignment is not None and alignment.learned:
        share = alignment.alike / alignment.learned
        yield Note(f"{share:.1%} of what is learned is cut alike by both: there the student learns its probabilities")
    return found


def _pairs(moving: Relocation, rows: Sequence[Row]) -> Iterator[tuple[int, Encoded, Encoded]]:
    """Rows as either base reads them, where what is learned is the same tokens, or is to be aligned."""
    for number, row in enumerate(rows):
        old, new = (_whole(moving, base, row, number) for base in (moving.old, moving.new))
        if old is None or new is None:
            continue
        if moving.learn == "aligned" or old.learned == new.learned:
            yield number, old, new


def _whole(moving: Relocation, base: Base, row: Row, number: int) -> Encoded | None:
    how = moving.encoding(base)
    encoded = encode_row(row, base.tokenizer, base.template, how, number=number)
    return encoded if len(encoded.ids) <= how.max_seq_len and any(encoded.loss_mask[1:]) else None
