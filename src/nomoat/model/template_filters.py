"""The filters and methods that chat templates may use, each with a bound on what it makes.

Left out on purpose: what pads to any width (``center``, ``ljust``, ``format``), what is slow or random, and what
nobody formats a conversation with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import pass_environment
from jinja2.environment import Environment
from jinja2.filters import FILTERS as JINJA
from jinja2.filters import make_attrgetter

from nomoat.model.template_fuel import Fuel, Overrun

_MAX_INDENT = 32
_MAX_PRECISION = 20


def _fuel(environment: Environment) -> Fuel:
    fuel = environment.fuel  # type: ignore[attr-defined]
    if not isinstance(fuel, Fuel):
        raise TypeError("chat template filters run in the Sandbox only")
    return fuel


@pass_environment
def _tojson(
    environment: Environment,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: no HTML escapes, letters as they are."""
    _check_indent(indent)
    _fuel(environment).weighed(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    fuel = _fuel(environment)
    items = list(value)
    if attribute is not None:
        items = list(map(make_attrgetter(environment, attribute), items))
    return fuel.join(fuel.text(d), [fuel.text(item) for item in items])


@pass_environment
def _replace(environment: Environment, s: Any, old: Any, new: Any, count: int | None = None) -> str:
    fuel = _fuel(environment)
    return _bounded_replace(fuel, fuel.text(s), fuel.text(old), fuel.text(new), -1 if count is None else count)


@pass_environment
def _indent(environment: Environment, s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _check_indent(width)
    fuel = _fuel(environment)
    made = JINJA["indent"](fuel.text(s), width, first, blank)
    return str(made)


@pass_environment
def _string(environment: Environment, value: Any) -> str:
    return _fuel(environment).text(value)


@pass_environment
def _sum(environment: Environment, iterable: Iterable[Any], attribute: Any = None, start: float = 0) -> float:
    """Of numbers only: adding up lists takes quadratic time."""
    if attribute is not None:
        iterable = map(make_attrgetter(environment, attribute), iterable)
    total = start
    for number in iterable:
        if not isinstance(number, (int, float)) or not isinstance(total, (int, float)):
            raise Overrun("adds up something else than numbers")
        total += number
    return total


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if not isinstance(precision, int) or abs(precision) > _MAX_PRECISION:
        raise Overrun(f"rounds to {precision!r} digits")
    rounded: float = JINJA["round"](value, precision, method)
    return rounded


def _check_indent(indent: int | str | None) -> None:
    size = len(indent) if isinstance(indent, str) else indent or 0
    if not isinstance(size, int) or size > _MAX_INDENT:
        raise Overrun(f"indents by {size!r}")


_AS_THEY_ARE = (
    "abs attr capitalize count d default dictsort e escape first float groupby int items last length list lower map "
    "max min reject rejectattr reverse safe select selectattr sort title trim truncate unique upper wordcount"
)

FILTERS: dict[str, Callable[..., Any]] = {name: JINJA[name] for name in _AS_THEY_ARE.split()} | {
    "tojson": _tojson,
    "join": _join,
    "replace": _replace,
    "indent": _indent,
    "string": _string,
    "round": _round,
    "sum": _sum,
}


def _bounded_replace(fuel: Fuel, text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if old else len(text) + 1
    fuel.check_length(len(text) + found * max(0, len(new) - len(old)))
    replaced: str = fuel.weighed(text.replace(old, new, count))
    return replaced


def _bounded_join(fuel: Fuel, glue: str, parts: Iterable[Any]) -> str:
    return fuel.join(glue, fuel.weighed(list(parts)))


_TEXT = (
    "strip lstrip rstrip split rsplit splitlines partition rpartition startswith endswith removeprefix removesuffix "
    "lower upper title capitalize casefold swapcase find rfind index rindex count isdigit isnumeric isdecimal isalpha "
    "isalnum isspace isupper islower istitle isascii isidentifier"
)

# The methods of each type that may be called: none makes more than went in, but for the two below.
METHODS: dict[type, frozenset[str]] = {
    str: frozenset((*_TEXT.split(), "replace", "join")),
    dict: frozenset(("items", "keys", "values", "get")),
    list: frozenset(("index", "count")),
    tuple: frozenset(("index", "count")),
}
BOUNDED_METHODS: dict[str, Callable[..., str]] = {"replace": _bounded_replace, "join": _bounded_join}
