"""Rows to train, valid and test by a hash, so that adding rows never moves an old one.

Each row has a number in [0, 1): the hash of the seed and of its prompt. Rows below the test threshold are for testing,
rows above one minus the valid threshold are for validation, the rest is for training. So the same prompt never
stands in two splits, and the order of the rows does not matter.

The thresholds are the fractions asked for, which depend on nothing else. Only where a fraction would give more rows
than are of use (200 for validation, 500 for testing) or too few to measure with (8 and 20, as far as the data allows)
is the threshold lowered or raised to the count. They are then stored with the data set, and used again when rows are
added under the same name or with ``--split-like``: so an old row stays where it is in those cases too.
"""

from __future__ import annotations

import dataclasses
import hashlib
from bisect import bisect_left
from collections.abc import Sequence

from nomoat.data.rows import Row, prompt_of, question_key

VALID_AT_MOST, TEST_AT_MOST = 200, 500
_VALID_AT_LEAST, _TEST_AT_LEAST = 8, 20
# To reach these, no more than a tenth and a fifth of a small data set is held out.
_VALID_SHARE, _TEST_SHARE = 10, 5


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the splits begin on [0, 1): ``[0, test)`` is test, ``(1 - valid, 1)`` is valid."""

    valid: float
    test: float
    seed: int

    def split_of(self, row: Row) -> str:
        """``"train"``, ``"valid"`` or ``"test"``."""
        position = position_of(row, self.seed)
        if position < self.test:
            return "test"
        return "valid" if 1.0 - position < self.valid else "train"


def position_of(row: Row, seed: int) -> float:
    """The row's number in [0, 1), from the first 53 bits of SHA-256 over the seed and the prompt."""
    key = question_key(prompt_of(row)).encode()
    digest = hashlib.sha256(f"{seed}\n".encode() + key).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def choose_thresholds(rows: Sequence[Row], *, valid: float, test: float, seed: int) -> Thresholds:
    """The fractions, lowered or raised to useful counts. A fraction of 0 stays 0."""
    positions = sorted(position_of(row, seed) for row in rows)
    from_above = [1.0 - position for position in reversed(positions)]
    low = min(_TEST_AT_LEAST, len(rows) // _TEST_SHARE)
    test = _fitted(positions, test, low, TEST_AT_MOST)
    low = min(_VALID_AT_LEAST, len(rows) // _VALID_SHARE)
    valid = _fitted(from_above, valid, low, VALID_AT_MOST)
    return Thresholds(valid=min(valid, 1.0 - test), test=test, seed=seed)


def _fitted(positions: Sequence[float], fraction: float, low: int, high: int) -> float:
    """The fraction, or the threshold under which at least ``low`` and at most ``high`` of the positions lie."""
    if fraction <= 0.0 or not positions:
        return 0.0
    count = bisect_left(positions, fraction)
    if low <= count <= high:
        return fraction
    wanted = min(max(count, low), high)
    return positions[wanted] if wanted < len(positions) else 1.0
