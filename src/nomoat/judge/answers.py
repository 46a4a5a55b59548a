"""How an answer is read before it is compared: normalised text, and the last number in it."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

_MINUS = "\u2212"
_GROUP = "[,_'\u2019\u00a0\u2009\u202f]"
_KEPT_IN_NUMBERS = re.compile(r"(?<=\d)\.(?=\d)|(?<![\w.])-(?=\.?\d)|(?<![\w.])\.(?=\d)")
_VANISHES = frozenset(".'\u2019`")

_NUMBER = re.compile(
    rf"""(?P<sign>(?<![\w.)])[-{_MINUS}])?[$€£¥]?
    (?:
      (?P<european>(?<![\d.,])(?:
          [1-9]\d{{0,2}}(?:\.\d{{3}})+,\d+                            # 1.234.567,89
        | \d+,(?:\d{{1,2}}|\d{{4,}})(?!\d)                            # 3,5
        | 0,\d+))                                                     # 0,125
    | (?P<grouped>(?<![\d.])[1-9]\d{{0,2}}(?:{_GROUP}\d{{3}})+(?!\d)(?:\.\d+)?)   # 1,234,567.89
    | (?P<fraction>(?<![\d./])\d+/[1-9]\d*(?![\d/]))                 # 3/4
    | (?P<plain>\d+(?:\.\d+)?(?:[eE][+-]?\d{{1,4}}(?!\d))?|\.\d+)    # 12, 0.5, 6e23, .5
    )""",
    re.VERBOSE,
)


def normalise(text: str) -> str:
    """The text as the normalised match sees it.

    Unicode NFKC, case folded, all whitespace runs one space. Full stops and apostrophes vanish (``U.S.`` is
    ``us``), other punctuation becomes a space (``well-known`` is ``well known``); decimal points and minus
    signs of numbers stay, and so do symbols such as ``+ = < $``. A text of punctuation alone is kept as it is.
    """
    folded = unicodedata.normalize("NFKC", text.replace(_MINUS, "-")).casefold()
    kept = {match.start() for match in _KEPT_IN_NUMBERS.finditer(folded)}
    plain = "".join(
        character if index in kept else _without_punctuation(character) for index, character in enumerate(folded)
    )
    return " ".join(plain.split()) or " ".join(folded.split())


def _without_punctuation(character: str) -> str:
    if character in _VANISHES:
        return ""
    return " " if unicodedata.category(character).startswith("P") else character


def last_number(text: str) -> Decimal | None:
    """The last number written in the text, or ``None``.

    Thousands may be grouped by comma, underscore, apostrophe or a narrow space; ``1.234,56`` and ``3,5`` are
    read the European way; ``3/4`` is a fraction; a currency sign may stand before; a percent sign is not applied.
    """
    found = None
    for match in _NUMBER.finditer(text):
        found = match
    return None if found is None else _value(found)


def _value(match: re.Match[str]) -> Decimal:
    sign = -1 if match["sign"] else 1
    if match["fraction"]:
        above, below = match["fraction"].split("/")
        return sign * Decimal(above) / Decimal(below)
    if match["european"]:
        return sign * Decimal(match["european"].replace(".", "").replace(",", "."))
    if match["grouped"]:
        return sign * Decimal(re.sub(_GROUP, "", match["grouped"]))
    return sign * Decimal(match["plain"])


def only_a_number(text: str) -> bool:
    """Whether the text is one number and at most a unit: ``42``, ``$3.50``, ``-7 %``, ``12 km``."""
    stripped = text.strip().rstrip(".")
    match = _NUMBER.match(stripped)
    if match is None:
        return False
    rest = stripped[match.end() :].strip()
    return not any(character.isdigit() for character in rest) and len(rest.split()) <= 1 and len(rest) <= 12


def same_number(left: Decimal, right: Decimal, tolerance: float) -> bool:
    """Whether two numbers agree within ``tolerance``, relative to the larger, or absolute below one."""
    scale = max(abs(left), abs(right), Decimal(1))
    return abs(left - right) <= Decimal(repr(tolerance)) * scale
