"""Flags drawn from an options class, and the instance read back from them."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from nomoat.core.options import OptionSpec, describe, parse_values

T = TypeVar("T")


_LONGEST_CHOICES = 50  # characters that a line of help has room for
_METAVARS = {int: "N", float: "X", str: "TEXT", tuple: "A,B", dict: "NAME=N"}


def add_flags(
    parser: argparse.ArgumentParser,
    options_class: type,
    *,
    inputs: tuple[str, ...] = (),
    group: str = "",
    skip: tuple[str, ...] = (),
) -> None:
    """Add one flag per option of the class, under a heading or among the verb's own; what is on gets ``--no-x`` too.

    The options that are ``inputs`` are given by their place, in the order of the class, and must be given.
    """
    flags = parser.add_argument_group(group) if group else parser
    for spec in describe(options_class):
        if spec.name in inputs:
            parser.add_argument(spec.name, metavar=spec.metavar, help=spec.help.replace("%", "%%"))
        elif spec.name not in skip:
            _add_flag(flags, spec)


def _add_flag(flags: argparse._ActionsContainer, spec: OptionSpec) -> None:
    shown = "" if spec.default in (None, "", (), False) else f" [{_shown(spec.default)}]"
    help_text = (spec.help + shown).replace("%", "%%")
    if spec.type is bool:
        both_ways: Any = "store_true" if spec.default is False else argparse.BooleanOptionalAction
        flags.add_argument(spec.flag, action=both_ways, default=argparse.SUPPRESS, help=help_text)
        return
    choices = "|".join(spec.choices)
    if len(choices) > _LONGEST_CHOICES:
        choices, help_text = spec.name.upper(), f"{help_text}; one of {', '.join(spec.choices)}"
    metavar = spec.metavar or choices or _METAVARS[spec.type]
    flags.add_argument(spec.flag, default=argparse.SUPPRESS, metavar=metavar, help=help_text)


def _shown(value: Any) -> str:
    if value is True:
        return "yes"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_flags(args: argparse.Namespace, options_class: type[T], **fixed: Any) -> T:
    """The options that the flags gave, defaults elsewhere; ``fixed`` are set by the verb itself."""
    names = {spec.name for spec in describe(options_class)}
    given = {key: value for key, value in vars(args).items() if key in names}
    return parse_values(options_class, {**given, **fixed})
