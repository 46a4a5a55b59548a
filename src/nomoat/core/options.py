"""Options are defined once, as a typed dataclass per stage; flags, config keys and docs are renderings of it.

A field made with ``option(default, "what it does")`` carries its help. ``describe`` lists the fields of an
options class; ``parse_values`` turns text (flags, TOML, web forms) into a checked instance.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from nomoat.core.errors import UsageError

T = TypeVar("T")


def option(default: Any, help: str, *, metavar: str = "", choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with its one-line help, and optionally the values it may take."""
    metadata = {"help": help, "metavar": metavar, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option as its renderings need it."""

    name: str
    type: type
    default: Any
    help: str
    metavar: str
    choices: tuple[str, ...]
    optional: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def describe(options_class: type) -> list[OptionSpec]:
    """The options of a class, in the order they are written."""
    hints = typing.get_type_hints(options_class)
    specs = []
    for field in dataclasses.fields(options_class):
        kind, optional = _unwrap(hints[field.name])
        meta = field.metadata
        specs.append(
            OptionSpec(
                name=field.name,
                type=kind,
                default=field.default,
                help=meta.get("help", ""),
                metavar=meta.get("metavar", ""),
                choices=meta.get("choices", ()),
                optional=optional,
            )
        )
    return specs


def _unwrap(hint: Any) -> tuple[type, bool]:
    if isinstance(hint, types.UnionType):
        inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return typing.get_origin(inner[0]) or inner[0], True
    return typing.get_origin(hint) or hint, False


def parse_values(options_class: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build an instance from text or plain values; a wrong key is named with a near match, and ``where`` it stands."""
    place = f"{where}: " if where else ""
    specs = {spec.name: spec for spec in describe(options_class)}
    parsed = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in specs:
            near = difflib.get_close_matches(name, specs, n=1)
            raise UsageError(f"{place}no option {key!r}", hint=f"did you mean {near[0]!r}?" if near else "")
        parsed[name] = _convert(specs[name], value, place)
    return options_class(**parsed)


def _convert(spec: OptionSpec, value: Any, place: str) -> Any:
    if value is None:
        return None
    try:
        converted = _BY_TYPE.get(spec.type, spec.type)(value)
    except (ValueError, TypeError) as error:
        why = _NUMBERS.get(spec.type, str(error))
        raise UsageError(f"{place}{spec.flag} cannot be {value!r}", hint=why) from error
    if spec.choices and converted not in spec.choices:
        raise UsageError(f"{place}{spec.flag} cannot be {value!r}", hint="one of: " + ", ".join(spec.choices))
    return converted


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "true": True,
        "yes": True,
        "1": True,
        "on": True,
        "false": False,
        "no": False,
        "0": False,
        "off": False,
    }
    if str(value).lower() not in words:
        raise ValueError("say true or false")
    return words[str(value).lower()]


def _to_tuple(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)


def _to_dict(value: Any) -> dict[str, Any]:
    """Read ``q_proj=32,mlp.down_proj=8`` or a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    pairs = [part.partition("=") for part in _to_tuple(value)]
    if any(not separator for _, separator, _ in pairs):
        raise ValueError("write it as name=value,name=value")
    return {key.strip(): float(number) for key, _, number in pairs}


_NUMBERS: dict[type, str] = {int: "give a whole number", float: "give a number"}
_BY_TYPE: dict[type, Any] = {bool: _to_bool, tuple: _to_tuple, dict: _to_dict}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of ``"4G"``, ``"512M"``, ``"1.5GiB"``; units are powers of 1,024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="write it as 4G or 512M")
    power = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * 1024**power)
