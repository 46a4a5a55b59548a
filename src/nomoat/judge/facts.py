"""What a receipt is made of: plain values, filled from the results of the stages of an evening."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nomoat.core.records import Eval, Step


@dataclasses.dataclass(frozen=True, slots=True)
class Ingredient:
    """A file or artefact that went in. ``source`` says where it came from, in the user's words."""

    role: str
    name: str
    sha256: str = ""
    licence: str = ""
    size_bytes: int | None = None
    source: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """A prediction with its interval, and what came. Units: seconds, bytes, or a plain count.

    ``promise`` is the share of forecasts that the interval is meant to hold.
    """

    what: str
    unit: Literal["s", "B", ""]
    predicted: float
    actual: float
    low: float | None = None
    high: float | None = None
    promise: float = 0.8

    @property
    def held(self) -> bool | None:
        """Whether the interval held; ``None`` where there was none."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.actual <= self.high


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Time measured; energy and money estimated from the stated assumptions.

    A busy core of a laptop draws 5 to 10 W above idle and the rest of the machine (screen, memory, disk, losses)
    8 to 15 W; the price is a household's. All of it is printed, so that a reader can put in their own.
    """

    wall_s: float
    cpu_s: float
    watts_per_busy_core: float = 8.0
    watts_rest: float = 12.0
    price_per_kwh: float = 0.30
    currency: str = "EUR"

    @property
    def watt_hours(self) -> float:
        return (self.cpu_s * self.watts_per_busy_core + self.wall_s * self.watts_rest) / 3600

    @property
    def price(self) -> float:
        return self.watt_hours / 1000 * self.price_per_kwh


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A line to type next, and what it is for."""

    purpose: str
    line: str


@dataclasses.dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """Everything on the page. Leave out what there is none of; its section is left out too.

    ``judged`` is ``Done.result`` of ``judge.compare.judge``, its ``forgetting`` included. ``kept`` (rows by split)
    and ``dropped`` (``reason``, ``count``, ``first``) are the data report's. ``steps`` and ``evals`` are the
    records of the tune. ``settings``, ``machine`` and ``versions`` are printed as they come, in order; ``stages``
    maps a stage to its seconds.
    """

    name: str
    created: str
    judged: Mapping[str, Any] | None = None
    ingredients: Sequence[Ingredient] = ()
    kept: Mapping[str, int] = dataclasses.field(default_factory=dict)
    dropped: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    forecasts: Sequence[Forecast] = ()
    gave_up: Sequence[str] = ()
    steps: Sequence[Step] = ()
    evals: Sequence[Eval] = ()
    stages: Mapping[str, float] = dataclasses.field(default_factory=dict)
    cost: Cost | None = None
    machine: Mapping[str, str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    commands: Sequence[Command] = ()
    notes: Sequence[str] = ()
