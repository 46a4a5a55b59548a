"""What a result says, in words: the same words in the terminal and in the receipt."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from nomoat.core.amounts import counted
from nomoat.judge import units
from nomoat.judge.verdict import LOG_PERPLEXITY, SHARE

Result = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Headline:
    """``word`` is the verdict; ``sentence`` what was measured; ``detail`` how sure that is."""

    word: str
    sentence: str
    detail: str


def headline(result: Result) -> Headline:
    """The verdict of a judge's result in words, with its interval."""
    compared = result[result["headline"]]
    sentence = _answers(compared, result["counts"]) if result["headline"] == "answers" else _loss(compared)
    return Headline(result["verdict"], sentence, f"{difference(compared)}. {compared['why']}.")


def _answers(compared: Result, counts: Result) -> str:
    right = counts["both_right"] + counts["fixed"]
    was = counts["both_right"] + counts["broken"]
    return (
        f"{right:,} of {compared['rows']:,} held-out answers are right "
        f"({units.share(compared['after']['value'])}); before it was {was:,} "
        f"({units.share(compared['before']['value'])})"
    )


def _loss(compared: Result) -> str:
    before, after = compared["before"]["value"], compared["after"]["value"]
    moved = "fell" if after < before else "rose" if after > before else "went"
    return (
        f"the held-out loss {moved} from {units.nats(before)} to {units.nats(after)} nats per token "
        f"(perplexity {units.perplexity(math.exp(before))} to {units.perplexity(math.exp(after))}) "
        f"on {counted(compared['rows'], 'row')}"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95\u202f% interval, in words."""

    value: str
    interval: str


def difference(compared: Result) -> str:
    """``+26 points, 95 % interval +18 to +35``."""
    gap = change(compared)
    return f"{gap.value}, 95\u202f% interval {gap.interval}"


def change(compared: Result) -> Estimate:
    """After minus before: ``+26 points``, ``+18 to +35``."""
    value, low, high = (compared["difference"][key] for key in ("value", "low", "high"))
    if compared["unit"] == SHARE:
        return Estimate(f"{units.points(value)} points", f"{units.points(low)} to {units.points(high)}")
    if compared["unit"] == LOG_PERPLEXITY:
        value, low, high = (units.points(math.expm1(bound)) for bound in (value, low, high))
        return Estimate(f"{value}\u202f%", f"{low} to {high}\u202f%")
    return Estimate(f"{units.signed(value)} {compared['unit']}", f"{units.signed(low)} to {units.signed(high)}")


def estimate(compared: Result, side: str) -> Estimate:
    """One side: ``26 %``, ``18 to 35 %``."""
    value, low, high = (compared[side][key] for key in ("value", "low", "high"))
    if compared["unit"] == SHARE:
        return Estimate(units.share(value), f"{100 * low:.0f} to {100 * high:.0f}\u202f%")
    if compared["unit"] == LOG_PERPLEXITY:
        value, low, high = (math.exp(bound) for bound in (value, low, high))
        return Estimate(units.perplexity(value), f"{units.perplexity(low)} to {units.perplexity(high)}")
    return Estimate(units.nats(value), f"{units.nats(low)} to {units.nats(high)}")
