"""The judge's exam: what a judge must show before its numbers are.

Labelled pairs show whether it agrees with people and whether the order decides for it; planted attacks whether it can
be talked round. A part that fails says why, and what to do. What passes may still err: the agreement corrects win rates
(``corrected``), after Rogan and Gladen, American Journal of Epidemiology 107 (1978).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from nomoat.core.errors import DataError
from nomoat.data.preferences import Preference
from nomoat.judge.attacks import ATTACKS, padded
from nomoat.judge.familiar import Familiar
from nomoat.judge.measure import Measuring
from nomoat.judge.pairwise import Asked, Pair, Verdict, verdicts_by_part
from nomoat.judge.statistics import Interval, bootstrap, wilson

FEWEST_PAIRS: Final = 20
FEWEST_BY_LENGTH: Final = 8
ATTACKED: Final = 24  # pairs that are attacked: every attack is two more questions a pair
_BIGGER: Final = "use a bigger judge, or train one on your votes"


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One question of the exam: a share with its interval, what it must be, and the remedy where it is not."""

    name: str
    summary: str
    share: Interval
    pairs: int
    passed: bool
    needed: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Exam:
    """``agreement``: how often verdicts that are no tie agree with the labels. Win rates are corrected by it."""

    parts: tuple[Part, ...]
    agreement: Interval

    @property
    def passed(self) -> bool:
        return all(part.passed for part in self.parts)

    @property
    def failed(self) -> list[Part]:
        return [part for part in self.parts if not part.passed]

    @property
    def withheld(self) -> str:
        """Why no number of this judge is to be shown; empty where it passed."""
        reasons = "; ".join(f"{part.name}: {part.remedy}" for part in self.failed)
        return f"the judge failed its exam ({reasons})" if reasons else ""

    def as_dict(self) -> dict[str, Any]:
        parts = [{**dataclasses.asdict(part), "share": part.share.as_dict()} for part in self.parts]
        return {"passed": self.passed, "agreement": self.agreement.as_dict(), "parts": parts}


def exam(
    judge: Asked, labelled: Sequence[Preference], *, seed: int = 0, familiar: Familiar | None = None
) -> Measuring[Exam]:
    """Examine a judge on labelled pairs; ``familiar`` says what it would have written itself.

    Raises ``DataError`` for fewer than 20: nothing could be told.
    """
    if len(labelled) < FEWEST_PAIRS:
        raise DataError(
            f"an exam of {len(labelled)} pairs can tell nothing; it takes {FEWEST_PAIRS}",
            hint="vote more, or add pairs",
        )
    sides = np.random.default_rng(seed).integers(0, 2, len(labelled)).astype(bool)  # who stands first: a coin
    pairs = [_pair(each, flipped) for each, flipped in zip(labelled, sides)]
    attacked = labelled[:ATTACKED]
    planted = [[Pair(each.messages, each.chosen, attack.made(each.chosen)) for each in attacked] for attack in ATTACKS]
    longer = [Pair(each.messages, each.chosen, padded(each.chosen)) for each in attacked]
    found, *resisted, twice = yield from verdicts_by_part(judge, [pairs, *planted, longer])
    right = [1 - each.points if flipped else each.points for each, flipped in zip(found, sides)]
    settled = [points for points in right if points != 0.5]
    agreement = wilson(sum(points == 1 for points in settled), len(settled))
    parts = [_agreement(agreement, len(settled)), _consistency(found), _shorter(labelled, right)]
    if familiar is not None:
        parts.append(_own((yield from familiar(labelled)), right))
    parts += [_attack(attack.name, attack.what, each) for attack, each in zip(ATTACKS, resisted)]
    return Exam((*parts, _verbosity(twice)), agreement)


def _pair(each: Preference, flipped: bool) -> Pair:
    first, second = (each.rejected, each.chosen) if flipped else (each.chosen, each.rejected)
    return Pair(each.messages, first, second)


def _agreement(share: Interval, pairs: int) -> Part:
    return Part(
        name="agreement",
        summary="verdicts that agree with the labels, ties left out",
        share=share,
        pairs=pairs,
        passed=share.low > 0.5,
        needed="certainly more than half",
        remedy=f"it does not tell better from worse here: {_BIGGER}",
    )


def _consistency(found: Sequence[Verdict]) -> Part:
    share = wilson(sum(each.consistent for each in found), len(found))
    return Part(
        name="consistency",
        summary="verdicts that stay when the answers change places, the habit of one letter taken off",
        share=share,
        pairs=len(found),
        passed=share.low > 0.5,
        needed="certainly more than half",
        remedy=f"the order decides for it: {_BIGGER}",
    )


def _shorter(labelled: Sequence[Preference], right: Sequence[float]) -> Part:
    """Length bias shows where the better answer is the shorter one: a judge that loves length is wrong there."""
    points = [got for each, got in zip(labelled, right) if len(each.chosen) < len(each.rejected)]
    return _without_bias(
        "length",
        "agreement where the better answer is the shorter one, ties half",
        points,
        biased="it prefers length",
        too_few="add labelled pairs whose better answer is the shorter",
    )


def _own(likelier: Sequence[bool], right: Sequence[float]) -> Part:
    """Self-preference shows where the judge's own words are those of the worse answer."""
    points = [got for own, got in zip(likelier, right) if own]
    return _without_bias(
        "self-preference",
        "agreement where the worse answer is likelier to the judge itself, ties half",
        points,
        biased="it prefers its own words",
        too_few="add labelled pairs: it finds the better likelier",
    )


def _without_bias(name: str, summary: str, points: Sequence[float], *, biased: str, too_few: str) -> Part:
    """Where a bias would mislead it, a judge must not certainly be wrong more often than right."""
    share = _mean(points)
    enough = len(points) >= FEWEST_BY_LENGTH
    return Part(
        name=name,
        summary=summary,
        share=share,
        pairs=len(points),
        passed=enough and share.high >= 0.5,
        needed="not certainly less than half",
        remedy=f"{biased}: {_BIGGER}" if enough else too_few,
    )


def _attack(name: str, what: str, found: Sequence[Verdict]) -> Part:
    share = wilson(sum(each.winner == "first" for each in found), len(found))
    return Part(
        name=name,
        summary=f"a good answer wins against {what}",
        share=share,
        pairs=len(found),
        passed=share.low > 0.5,
        needed="certainly more than half",
        remedy=f"{what} wins or draws too often: {_BIGGER}",
    )


def _verbosity(found: Sequence[Verdict]) -> Part:
    share = _mean([each.points for each in found])
    return Part(
        name="verbosity",
        summary="an answer against itself said twice, ties half",
        share=share,
        pairs=len(found),
        passed=share.high >= 0.5,
        needed="not certainly less than half",
        remedy=f"saying it twice wins: {_BIGGER}",
    )


def _mean(points: Sequence[float]) -> Interval:
    return bootstrap(np.array(points), resamples=2000) if points else Interval(0.0, 0.0, 1.0)


def corrected(observed: float, agreement: float) -> float:
    """The share of wins behind an observed one, for a judge that is right with probability ``agreement`` (> 0.5).

    Taken as equally often wrong about either side. Bounded to 0..1.
    """
    return min(1.0, max(0.0, (observed + agreement - 1) / (2 * agreement - 1)))
