"""How the next token is drawn: the options of a request. The drawing itself is in ``choose``."""

from __future__ import annotations

import dataclasses
import math

from nomoat.core.errors import UsageError
from nomoat.core.options import option

_NON_NEGATIVE = ("temperature", "top_k", "min_p")


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Options of one request. Raises ``UsageError`` for values that make no sense.

    The defaults are greedy: the likeliest token each time, no filter, no penalty.
    """

    temperature: float = option(0.0, "0 takes the likeliest token; 0.7 is lively; above 1.5 is noise")
    top_k: int = option(0, "draw among the K likeliest tokens only; 0 is all")
    top_p: float = option(1.0, "draw among the likeliest tokens that together reach this probability")
    min_p: float = option(0.0, "drop tokens less likely than this share of the likeliest one")
    repetition_penalty: float = option(1.0, "above 1: tokens already in the prompt or answer get less likely")
    presence_penalty: float = option(0.0, "taken once from the logit of every token the answer holds")
    frequency_penalty: float = option(0.0, "taken from a token's logit each time the answer holds it")
    seed: int | None = option(None, "the same seed gives the same text, whatever else is in the batch")
    stop: tuple[str, ...] = option((), "end the answer before this text", metavar="TEXT")
    max_tokens: int = option(256, "the longest answer, in tokens")

    def __post_init__(self) -> None:
        numbers = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("seed", "stop")
        }
        for name, value in numbers.items():
            _require(math.isfinite(value), name, value, "a finite number")
            if name in _NON_NEGATIVE:
                _require(value >= 0, name, value, "0 or more")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _require(self.min_p <= 1, "min_p", self.min_p, "between 0 and 1")
        _require(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "above 0")
        _require(self.max_tokens >= 0, "max_tokens", self.max_tokens, "0 or more")
        _require(all(self.stop), "stop", self.stop, "texts that are not empty")
        if self.seed is not None:
            _require(0 <= self.seed < 2**63, "seed", self.seed, "between 0 and 2**63 - 1")

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def penalises(self) -> bool:
        """Whether tokens that were seen before count."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)


def _require(true: bool, name: str, value: object, what: str) -> None:
    if not true:
        raise UsageError(f"{name} is {value!r} and must be {what}")
