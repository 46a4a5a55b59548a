"""What an ``adapter_config.json`` may say. Keys and meanings are those of ``peft.LoraConfig``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nomoat.core.errors import BadHeader, UnsupportedType

MAX_RANK = 16384  # a matrix that was trained whole is an update of its full rank
MAX_PATTERNS = 4096
MAX_NAME = 512
MAX_CHOICES = 3
MAX_SAVED = 64
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]{1,512}")

# What changes the arithmetic of an adapter in ways that nomoat does not have, and the values that mean "not used".
_UNUSED: dict[str, tuple[Any, ...]] = {
    "fan_in_fan_out": (None, False),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None, {}),
    "kasa_config": (None, {}),
    "monteclora_config": (None, {}),
}
# Initialisations that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ) take something out of the base's
# weights; unless peft has converted such an adapter on saving, it fits no base on disk.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Raise ``UnsupportedType`` for kinds of adapter we do not run and ``BadHeader`` for values that cannot be."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedType(f"an adapter of type {kind!r:.40}; nomoat runs LORA (also DoRA and rsLoRA)", file=path)
    for key, unused in _UNUSED.items():
        if config.get(key) not in unused:
            raise UnsupportedType(f"{key} = {config[key]!r:.60} is a kind of adapter nomoat does not run", file=path)
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise UnsupportedType(
            f"init_lora_weights = {config['init_lora_weights']!r:.40}: the adapter belongs to a changed base",
            file=path,
            hint="save it with save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )
    _check_rank("r", config.get("r"), path)
    _check_alpha("lora_alpha", config.get("lora_alpha"), path)
    if config.get("bias") not in (None, "none", "all", "lora_only"):
        raise BadHeader(f"bias is {config['bias']!r:.40}, not none, all or lora_only", file=path)
    for key in ("use_dora", "use_rslora", "lora_bias"):
        if config.get(key) not in (None, True, False):
            raise BadHeader(f"{key} is {config[key]!r:.40}, not true or false", file=path)
    _check_targets(config.get("target_modules"), path)
    _check_saved(config, path)
    for pattern, rank in _patterns("rank_pattern", config, path).items():
        _check_rank(f"rank_pattern[{pattern!r}]", rank, path)
    for pattern, alpha in _patterns("alpha_pattern", config, path).items():
        _check_alpha(f"alpha_pattern[{pattern!r}]", alpha, path)
    for key in ("base_model_name_or_path", "revision"):
        value = config.get(key)
        if value is not None and (not isinstance(value, str) or len(value) > 4096):
            raise BadHeader(f"{key} is {value!r:.60}, not a name", file=path)


def _check_rank(what: str, value: Any, path: Path) -> None:
    if type(value) is not int or not 1 <= value <= MAX_RANK:
        raise BadHeader(f"{what} is {value!r:.40}, not a whole number from 1 to {MAX_RANK}", file=path)


def _check_alpha(what: str, value: Any, path: Path) -> None:
    if type(value) not in (int, float) or not abs(value) <= 1e9 or not math.isfinite(value):
        raise BadHeader(f"{what} is {value!r:.40}, not a number", file=path)


def _check_targets(value: Any, path: Path) -> None:
    names = [value] if isinstance(value, str) else value
    fine = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not fine or any(len(name) > 8 * MAX_NAME for name in names):
        raise BadHeader(f"target_modules is {value!r:.60}, not a name or a list of names", file=path)


def _check_saved(config: Mapping[str, Any], path: Path) -> None:
    """Whole modules beside the factors: names, not patterns."""
    saved = config.get("modules_to_save") or []
    if not isinstance(saved, list) or len(saved) > MAX_SAVED:
        raise BadHeader(f"modules_to_save is {saved!r:.60}, not a short list of names", file=path)
    for name in saved:
        if not isinstance(name, str) or _PLAIN_NAME.fullmatch(name) is None:
            raise BadHeader(f"modules_to_save holds {name!r:.60}, which is not a module's name", file=path)
    if saved and config.get("use_dora"):
        raise UnsupportedType(f"modules_to_save = {saved!r:.60} beside a DoRA is not supported", file=path)


def _patterns(key: str, config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the map; its keys are regular expressions and safe to run on module names."""
    found = config.get(key) or {}
    if not isinstance(found, dict) or len(found) > MAX_PATTERNS:
        raise BadHeader(f"{key} is {found!r:.60}, not a map of module names", file=path)
    for pattern in found:
        _check_pattern(f"{key}[{pattern!r:.60}]", pattern, path)
    return found


def _check_pattern(what: str, pattern: str, path: Path) -> None:
    # Every choice, and every repetition, multiplies the ways in which a name can fail to match; a repeated group
    # raises them to a power. Python cannot stop a match that takes for ever, so it is not begun.
    choices = len(re.findall(r"[*+{(]|(?<!\()\?", pattern))
    if len(pattern) > MAX_NAME or choices > MAX_CHOICES or re.search(r"\)[*+{]", pattern):
        raise UnsupportedType(f"{what} is too intricate a pattern", file=path)
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadHeader(f"{what} is not a regular expression: {error}", file=path) from error
