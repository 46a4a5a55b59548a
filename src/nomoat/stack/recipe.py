"""A combination written down as mergekit's YAML, for adapters.

    merge_method: ties
    base_model: smollm2-135m
    models:
      - {model: scribe, parameters: {weight: 1.0, density: 0.6}}
      - {model: smollm2-135m+sql, parameters: {weight: 0.5, density: 0.4}}
    parameters: {normalize: true, lambda: 1.0}

Keys: mergekit's README, "Merge Configuration". A model is an adapter's name or path, with or without ``base+`` in
front. What would change the result and is not understood is refused; what concerns tensors that adapters do not have
(dtype, tokenizer) is passed over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nomoat.core.errors import BadHeader, NotFound, UnsupportedType
from nomoat.core.files import disk_errors

MAX_BYTES = 1 << 20
MAX_MODELS = 256
_METHODS = {"dare_linear": "dare", "dare_ties": "dare_ties"}
_SAME = ("linear", "slerp", "task_arithmetic", "ties", "della", "della_linear")
_PASSED_OVER = ("dtype", "out_dtype", "tokenizer", "tokenizer_source", "chat_template", "name", "description")
_PARAMETERS = {"normalize": "normalize", "lambda": "scale", "epsilon": "epsilon", "density": "density"}
_WITHOUT_EFFECT = ("int8_mask", "rescale")  # a smaller mask; and scaling up, which our dare and della always do


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """What a file asks for. ``options`` are the fields of ``CombineOptions`` that it sets."""

    base: str
    adapters: tuple[str, ...]
    densities: tuple[float | None, ...]
    options: Mapping[str, Any]


def read_recipe(path: Path) -> Recipe:
    """Read a file. Raises ``NotFound``, ``BadHeader`` for what is damaged, ``UnsupportedType`` for what we lack."""
    values = _mapping(_load(path), "the file", path)
    method = _method(values.pop("merge_method", None), path)
    base = _text(values.pop("base_model", ""), "base_model", path)
    models = values.pop("models", None)
    if not isinstance(models, list) or not 0 < len(models) <= MAX_MODELS:
        raise BadHeader("models is not a list of models", file=path)
    options = _options(_mapping(values.pop("parameters", {}), "parameters", path), method, path)
    unknown = [key for key in values if key not in _PASSED_OVER]
    if unknown:
        raise UnsupportedType(f"{unknown[0]!r:.60} is not understood for adapters", file=path)
    entries = [entry for model in models if (entry := _model(model, base, path)) is not None]
    if method == "slerp" and "t" in options:
        entries = _between(entries, float(options.pop("t")), path)
    words = tuple(name if weight == 1.0 else f"{name}:{weight!r}" for name, weight, _ in entries)
    return Recipe(base, words, tuple(density for _, _, density in entries), {"method": method, **options})


def _load(path: Path) -> Any:
    # Here and not above: only this function needs it.
    import yaml

    if not path.is_file():
        raise NotFound(f"no such file: {path}")
    with disk_errors(path):
        data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise BadHeader(f"has {len(data):,} bytes; a recipe has at most {MAX_BYTES:,}", file=path)
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadHeader(f"not YAML: {error!s:.200}", file=path) from error


def _mapping(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadHeader(f"{what} is not a map", file=path)
    return dict(value)


def _text(value: Any, what: str, path: Path) -> str:
    if isinstance(value, dict) and isinstance(value.get("model"), str):
        value = value["model"]
    if not isinstance(value, str) or len(value) > 4096:
        raise BadHeader(f"{what} is {value!r:.60}, not a name", file=path)
    return value


def _method(value: Any, path: Path) -> str:
    if value in _SAME:
        return str(value)
    if not isinstance(value, str) or value not in _METHODS:
        known = ", ".join([*_SAME, *_METHODS])
        raise UnsupportedType(f"merge_method {value!r:.40} is not one for adapters", file=path, hint=f"one of: {known}")
    return _METHODS[value]


def _number(value: Any, what: str, path: Path) -> float:
    if isinstance(value, list | dict):
        raise UnsupportedType(f"{what} varies over the layers, which is not supported", file=path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise BadHeader(f"{what} is {value!r:.40}, not a number", file=path)
    return float(value)


def _options(parameters: Mapping[str, Any], method: str, path: Path) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in parameters.items():
        if key == "normalize":
            options["normalize"] = bool(value)
        elif key in _PARAMETERS or (key == "t" and method == "slerp"):
            options[_PARAMETERS.get(key, key)] = _number(value, key, path)
        elif key not in _WITHOUT_EFFECT:
            raise UnsupportedType(f"the parameter {key!r:.40} is not understood for {method}", file=path)
    return options


def _model(value: Any, base: str, path: Path) -> tuple[str, float, float | None] | None:
    """Name, weight and density; ``None`` for the base itself, which mergekit lists among its models."""
    entry = _mapping(value, "a model", path)
    name = _text(entry.pop("model", None), "a model's name", path)
    parameters = _mapping(entry.pop("parameters", {}), f"parameters of {name!r:.60}", path)
    weight = _number(parameters.pop("weight", 1.0), f"weight of {name!r:.60}", path)
    density = parameters.pop("density", None)
    density = None if density is None else _number(density, f"density of {name!r:.60}", path)
    left = [*entry, *(key for key in parameters if key not in _WITHOUT_EFFECT)]
    if left:
        raise UnsupportedType(f"{left[0]!r:.40} of {name!r:.60} is not understood", file=path)
    if name == base:
        return None
    return name.removeprefix(f"{base}+") if base else name, weight, density


def _between(
    entries: list[tuple[str, float, float | None]], t: float, path: Path
) -> list[tuple[str, float, float | None]]:
    """SLERP's ``t`` as two weights."""
    if len(entries) != 2 or not 0.0 <= t <= 1.0:
        raise BadHeader("slerp lies between two adapters, with t from 0 to 1", file=path)
    return [(entries[0][0], 1.0 - t, None), (entries[1][0], t, None)]
