"""Guess what comes next by what came after the same words before, where checking a guess costs less than it saves.

Prompt lookup decoding (Saxena 2023; in transformers as ``prompt_lookup_num_tokens``): guesses ride along in the step
of the next token, each row is drawn from as always, and the draws go on as long as they equal the guesses. So the
answer, greedy or sampled, is drawn by the same numbers from the same logits as without; only the number of steps
changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

MOST = 8  # guesses at a time
MAX_ROWS = 16  # rows of a step with guesses: beyond, products read their matrices more than once
_GRAM = 3  # tokens that must have been seen together
_GAIN = 1.1  # expected speed-up below which nothing is guessed
_FORGET = 0.98  # weight of the past when a step is timed


class Lookup:
    """Where the groups of ``_GRAM`` tokens of one text stood last, and how often guesses from it were right."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self.rate = 0.5  # of guesses that are right, as far as is known

    def guess(self, known: Sequence[int], most: int) -> list[int]:
        """Up to ``most`` tokens that followed the last time; none for words that are new."""
        for end in range(max(self._indexed, _GRAM), len(known)):
            self._seen[tuple(known[end - _GRAM : end])] = end
        self._indexed = len(known)
        at = self._seen.get(tuple(known[-_GRAM:]))
        return list(known[at : at + most]) if at is not None else []

    def learn(self, tried: int, right: int) -> None:
        """So many guesses were checked, so many were drawn."""
        self.rate = 0.8 * self.rate + 0.2 * right / tried

    def rest(self) -> None:
        """Nothing was guessed though something could have been: things may have changed, so try again at some time."""
        self.rate += 0.02 * (0.4 - self.rate)


@dataclasses.dataclass(slots=True)
class Pace:
    """How long a step of so many rows takes, as a line through those that were timed."""

    n: float = 0.0
    rows: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0
    products: float = 0.0

    def time(self, rows: int, seconds: float) -> None:
        """A step of ``rows`` rows took so long."""
        self.n = _FORGET * self.n + 1
        self.rows = _FORGET * self.rows + rows
        self.squares = _FORGET * self.squares + rows * rows
        self.seconds = _FORGET * self.seconds + seconds
        self.products = _FORGET * self.products + rows * seconds

    def ratio(self, rows: int, more: int) -> float:
        """How many times as long a step takes with ``more`` rows; a guess until steps of several sizes were timed."""
        spread = self.n * self.squares - self.rows * self.rows
        if spread < 0.1 * self.n * self.n or self.seconds <= 0:
            return 1 + 0.05 * more / max(1, rows)
        slope = max(0.0, (self.n * self.products - self.rows * self.seconds) / spread)
        start = (self.seconds - slope * self.rows) / self.n
        alone = start + slope * rows
        return 1 + slope * more / alone if alone > 0 else 1.0 + more


def worth_guessing(rate: float, pace: Pace, rows: int) -> int:
    """How many guesses make the answer come fastest, if ``rate`` of them are right and the step has ``rows`` rows."""
    best, fastest, expected, right = 0, _GAIN, 1.0, 1.0
    for n in range(1, min(MOST, MAX_ROWS - rows) + 1):
        right *= rate
        expected += right
        speed = expected / pace.ratio(rows, n)
        if speed > fastest:
            best, fastest = n, speed
    return best
