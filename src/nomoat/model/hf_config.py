"""``config.json`` of a Hugging Face folder to ``ModelConfig``.

Reads both spellings of rotary settings: ``rope_theta`` with ``rope_scaling``, and ``rope_parameters``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nomoat.core.errors import BadHeader, UnsupportedType
from nomoat.model.config import Layer, ModelConfig, Rope
from nomoat.model.families import FAMILIES, family_named

_DEFAULT_PATTERN = {"gemma2": 2, "gemma3": 6}


def config_from_hf(raw: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Read the configuration. Raises ``BadHeader`` on missing or impossible values, ``UnsupportedType``."""
    values = _Values(raw, source)
    family = family_named(values.text("model_type"), source=source)
    traits = FAMILIES[family]
    d_model, n_heads = values.size("hidden_size"), values.size("num_attention_heads")
    head_dim = values.size("head_dim", d_model // n_heads)
    n_kv_heads = values.size("num_key_value_heads", n_heads)
    if n_heads % n_kv_heads:
        raise BadHeader(f"{n_heads} heads cannot share {n_kv_heads} key-value heads", file=source)
    rope = _rope(raw, head_dim, source)
    limit = values.size("max_position_embeddings", 2048)
    scaling = _rope_settings(raw)
    if scaling.get("rope_type") == "longrope":
        limit = min(limit, int(scaling.get("original_max_position_embeddings", limit)))
    return ModelConfig(
        family=family,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        d_ff=values.size("intermediate_size"),
        vocab_size=values.size("vocab_size"),
        max_seq_len=limit,
        layers=_layers(family, raw, values, rope, head_dim, source),
        norm_eps=values.number("rms_norm_eps", 1e-6),
        tied=bool(raw.get("tie_word_embeddings", traits.ties_by_default)),
        norms=traits.norms,
        qk_norm=traits.qk_norm,
        activation=_activation(raw, traits.activation, source),
        fused_projections=traits.fused_projections,
        embed_scale=math.sqrt(d_model) if traits.scales_embeddings else values.number("embedding_multiplier", 1.0),
        residual_scale=values.number("residual_multiplier", 1.0),
        logit_scale=1 / values.number("logits_scaling", 1.0),
        attn_scale=_attn_scale(family, raw),
        attn_softcap=raw.get("attn_logit_softcapping") if family == "gemma2" else None,
        logit_softcap=raw.get("final_logit_softcapping") if family.startswith("gemma") else None,
    )


class _Values:
    """Typed look-ups that name the key when a value is missing or impossible."""

    def __init__(self, raw: Mapping[str, Any], source: str) -> None:
        self._raw, self._source = raw, source

    def text(self, key: str) -> str:
        value = self._raw.get(key)
        if not isinstance(value, str):
            raise BadHeader(f"{key!r} is missing", file=self._source)
        return value

    def size(self, key: str, default: int | None = None) -> int:
        value = self._raw.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 24:
            raise BadHeader(f"{key!r} cannot be {value!r}", file=self._source)
        return value

    def number(self, key: str, default: float) -> float:
        value = self._raw.get(key, default)
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise BadHeader(f"{key!r} cannot be {value!r}", file=self._source)
        return float(value)


def _activation(raw: Mapping[str, Any], default: str, source: str) -> str:
    name = raw.get("hidden_activation") or raw.get("hidden_act") or default
    known = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh"}
    if name == "gelu" and default == "gelu_tanh":  # early Gemma configurations say gelu and mean tanh
        return default
    if name not in known:
        raise UnsupportedType(f"activation {name!r} is not one we run", file=source)
    return known[name]


def _attn_scale(family: str, raw: Mapping[str, Any]) -> float | None:
    if family.startswith("gemma") and raw.get("query_pre_attn_scalar"):
        return 1 / math.sqrt(float(raw["query_pre_attn_scalar"]))
    if family == "granite" and raw.get("attention_multiplier"):
        return float(raw["attention_multiplier"])
    return None


def _rope_settings(raw: Mapping[str, Any], layer_type: str = "full_attention") -> dict[str, Any]:
    """The rotary settings of one layer type under either spelling."""
    parameters = raw.get("rope_parameters")
    if isinstance(parameters, Mapping):
        nested = parameters.get(layer_type)
        settings = dict(nested if isinstance(nested, Mapping) else parameters)
    else:
        settings = dict(raw.get("rope_scaling") or {})
    settings.setdefault("rope_theta", raw.get("rope_theta") or 10000.0)
    settings["rope_type"] = settings.get("rope_type") or settings.get("type") or "default"
    return settings


def _rope(raw: Mapping[str, Any], head_dim: int, source: str, layer_type: str = "full_attention") -> Rope:
    settings = _rope_settings(raw, layer_type)
    partial = settings.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0
    dim, theta, kind = int(head_dim * partial), float(settings["rope_theta"]), settings["rope_type"]
    try:
        if kind == "default":
            return Rope(theta, dim)
        if kind == "linear":
            return Rope(theta, dim, scale=float(settings["factor"]))
        if kind == "llama3":
            return Rope(theta, dim, factors=llama3_factors(theta, dim, settings))
        if kind in ("longrope", "su"):
            return _longrope(theta, dim, settings, raw)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadHeader(f"rotary settings of kind {kind!r} are incomplete: {error}", file=source) from error
    raise UnsupportedType(f"rotary scaling {kind!r} is not one we run", file=source)


def llama3_factors(theta: float, dim: int, settings: Mapping[str, Any]) -> tuple[float, ...]:
    """Llama 3's scaling as divisors of the frequencies: slow ones by ``factor``, fast ones not, a ramp between."""
    factor, old = float(settings["factor"]), float(settings["original_max_position_embeddings"])
    low, high = float(settings["low_freq_factor"]), float(settings["high_freq_factor"])
    divisors = []
    for i in range(dim // 2):
        wavelength = 2 * math.pi * theta ** (2 * i / dim)
        if wavelength < old / high:
            divisors.append(1.0)
        elif wavelength > old / low:
            divisors.append(factor)
        else:
            smooth = (old / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(divisors)


def _longrope(theta: float, dim: int, settings: Mapping[str, Any], raw: Mapping[str, Any]) -> Rope:
    """LongRoPE's short factors; ``config_from_hf`` limits the context to the length they are made for."""
    original = settings.get("original_max_position_embeddings") or raw["original_max_position_embeddings"]
    stretch = raw["max_position_embeddings"] / original
    attention = settings.get("attention_factor")
    if attention is None:
        attention = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))
    return Rope(theta, dim, factors=tuple(map(float, settings["short_factor"])), attention_factor=float(attention))


def _layers(
    family: str, raw: Mapping[str, Any], values: _Values, rope: Rope, head_dim: int, source: str
) -> tuple[Layer, ...]:
    n_layers = values.size("num_hidden_layers")
    windows = _windows(family, raw, n_layers)
    if family == "gemma3":
        nested = isinstance(raw.get("rope_parameters"), Mapping) and "sliding_attention" in raw["rope_parameters"]
        local = (
            _rope(raw, head_dim, source, "sliding_attention")
            if nested
            else Rope(float(raw.get("rope_local_base_freq") or 10000.0), head_dim)
        )
        return tuple(Layer(window, local if window else rope) for window in windows)
    if family == "smollm3":
        interval = int(raw.get("no_rope_layer_interval") or 4)
        rotates = raw.get("no_rope_layers") or [(i + 1) % interval != 0 for i in range(n_layers)]
        return tuple(Layer(window, rope if turn else None) for window, turn in zip(windows, rotates))
    return tuple(Layer(window, rope) for window in windows)


def _windows(family: str, raw: Mapping[str, Any], n_layers: int) -> list[int | None]:
    window = raw.get("sliding_window")
    kinds = raw.get("layer_types")
    if not window or (family.startswith(("qwen", "smollm")) and not raw.get("use_sliding_window", False)):
        return [None] * n_layers
    if isinstance(kinds, list) and len(kinds) == n_layers:
        return [window if kind == "sliding_attention" else None for kind in kinds]
    pattern = raw.get("sliding_window_pattern") or _DEFAULT_PATTERN.get(family, 0)
    if pattern:
        return [window if (i + 1) % pattern else None for i in range(n_layers)]
    if family.startswith("qwen"):
        first = int(raw.get("max_window_layers", n_layers))
        return [window if i >= first else None for i in range(n_layers)]
    return [window] * n_layers
