"""When to stop voting, and how many rows a claim needs.

Looking after every vote and stopping when the interval excludes zero errs far more than one time in twenty. The rule
here holds at every look: it is a test martingale (Ville 1939; Ramdas et al. 2023, "Game-theoretic statistics and safe
anytime-valid inference", section 3), a uniform mixture over how often the better side wins.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from nomoat.core.errors import UsageError
from nomoat.judge.statistics import CONFIDENCE

_MOST_VOTES: Final = 1_000_000
_NORMAL: Final = NormalDist()


def evidence(wins: int, losses: int) -> float:
    """Logarithm of the evidence against a fair coin: ``B(1 + wins, 1 + losses) * 2 ** (wins + losses)``.

    Under a fair coin its exponential reaches ``1 / a`` with probability at most ``a``, however long one looks.
    """
    beta = math.lgamma(1 + wins) + math.lgamma(1 + losses) - math.lgamma(2 + wins + losses)
    return beta + (wins + losses) * math.log(2)


def enough(wins: int, losses: int, *, comparisons: int = 1) -> bool:
    """Whether these votes tell the two apart at 95 %, ``comparisons`` such questions being asked (Bonferroni)."""
    return evidence(wins, losses) >= _threshold(comparisons)


def votes_missing(wins: int, losses: int, *, comparisons: int = 1) -> int:
    """The fewest further votes that could settle it: as many, all for the side that leads. 0 when it is settled."""
    ahead, behind = max(wins, losses), min(wins, losses)
    low, high = 0, 1
    if enough(ahead, behind, comparisons=comparisons):
        return 0
    while not enough(ahead + high, behind, comparisons=comparisons):
        low, high = high, 2 * high
        if high > _MOST_VOTES:
            return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(ahead + middle, behind, comparisons=comparisons) else (middle, high)
    return high


def _threshold(comparisons: int) -> float:
    return math.log(comparisons / (1 - CONFIDENCE))


def rows_needed(gain: float, changed: float, *, power: float = 0.8) -> int:
    """Rows to see a ``gain`` in the share of right answers, before and after on the same rows.

    ``changed``: the share of rows whose answer turns from wrong to right or back, at least ``gain``. ``power``: how
    often so many rows show a gain that is there, by McNemar's test at 95 % (Connor 1987, Biometrics 43, equation 3).
    Raises ``UsageError`` for shares that cannot be.
    """
    if not 0 < gain <= changed <= 1:
        raise UsageError(f"a gain of {gain:g} needs a changed share between {gain:g} and 1, not {changed:g}")
    if not 0 < power < 1:
        raise UsageError(f"power {power:g} is not between 0 and 1")
    certain = _NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(changed)
    seen = _NORMAL.inv_cdf(power) * math.sqrt(changed - gain * gain)
    return math.ceil(((certain + seen) / gain) ** 2)


def margin(rows: int, share: float = 0.5) -> float:
    """Half the width of a 95 % interval for a share measured on so many rows (normal approximation)."""
    return _NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(share * (1 - share) / rows)
