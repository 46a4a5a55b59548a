"""Encoded rows to flat batches without padding, and the order in which a run sees its rows.

Attention never crosses a document and positions restart, which is the model's part (``Layout(lengths)``); here rows
are only laid one after the other. The order is a pure function of (seed, epoch), so a run resumes at any step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.model.template import Encoded


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """Whole rows one after the other: ``tokens`` (T,) int64, ``loss_mask`` (T,) bool, the length of each row."""

    tokens: Tensor
    lengths: list[int]
    loss_mask: Tensor

    @property
    def learned(self) -> int:
        """Tokens with a loss: masked ones that are not first in their row."""
        firsts = torch.tensor([0, *self.lengths[:-1]]).cumsum(0)
        return int(self.loss_mask.sum() - self.loss_mask[firsts].sum())


def pack(rows: Sequence[Encoded], max_tokens: int, *, group: int = 1) -> list[Packed]:
    """Fill batches in order, each up to ``max_tokens``; a row is never cut, a longer one stands alone.

    Every ``group`` rows in a row stay together.
    """
    batches: list[list[Encoded]] = []
    room = 0
    for first in range(0, len(rows), group):
        together = rows[first : first + group]
        size = sum(len(row.ids) for row in together)
        if not batches or size > room:
            batches.append([])
            room = max_tokens
        batches[-1] += together
        room -= size
    return [_joined(batch) for batch in batches]


def _joined(rows: list[Encoded]) -> Packed:
    return Packed(
        tokens=torch.tensor([token for row in rows for token in row.ids], dtype=torch.long),
        lengths=[len(row.ids) for row in rows],
        loss_mask=torch.tensor([learned for row in rows for learned in row.loss_mask], dtype=torch.bool),
    )


def unpack(packed: Packed) -> list[Encoded]:
    """The rows of a batch again."""
    ids, mask = packed.tokens.tolist(), packed.loss_mask.tolist()
    ends = list(itertools.accumulate(packed.lengths, initial=0))
    return [Encoded(ids=ids[begin:end], loss_mask=mask[begin:end]) for begin, end in itertools.pairwise(ends)]


def order(n_rows: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of the rows for one epoch, the same on every machine and version.

    Rows are sorted by a hash of (seed, epoch, index).
    """
    prefix = f"{seed} {epoch} ".encode()
    return sorted(range(n_rows), key=lambda index: hashlib.blake2b(prefix + b"%d" % index).digest())


def count_steps(n_rows: int, *, batch_size: int, epochs: float) -> int:
    """Steps of a run; the last step of an epoch may have fewer rows, and a part of an epoch is rounded up."""
    return math.ceil(epochs * math.ceil(n_rows / batch_size) - 1e-9)
