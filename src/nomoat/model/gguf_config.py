"""GGUF metadata to ``ModelConfig``, and GGUF tensor names to the checkpoint's module names.

Key and tensor names: the GGUF specification (ggml ``docs/gguf.md``) and llama.cpp's converter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nomoat.core.errors import BadHeader
from nomoat.model.config import Layer, ModelConfig, Rope
from nomoat.model.families import FAMILIES, family_named

# Module name inside a layer (Hugging Face) -> tensor name inside a block (GGUF).
_BLOCK_TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
# The same Hugging Face name means another place in each order of norms.
_NORM_TENSORS = {
    "pre": {"post_attention_layernorm": "ffn_norm"},
    "sandwich": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
    "post": {
        "post_attention_layernorm": "post_attention_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}


def gguf_tensor_name(parameter: str, norms: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` -> ``blk.3.ffn_up.weight``."""
    module, _, kind = parameter.rpartition(".")
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    if module in top:
        return f"{top[module]}.{kind}"
    _, _, index, inside = module.split(".", 3)
    return f"blk.{index}.{(_BLOCK_TENSORS | _NORM_TENSORS[norms])[inside]}.{kind}"


def config_from_gguf(
    metadata: Mapping[str, Any],
    rope_factors: tuple[float, ...] | None,
    *,
    vocab_size: int,
    tied: bool,
    source: str,
) -> ModelConfig:
    """Read the metadata. ``rope_factors`` is the file's own divisor tensor, if it has one."""
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise BadHeader("general.architecture is missing", file=source)
    family = family_named(architecture, source=source)
    traits, keys = FAMILIES[family], _Keys(metadata, architecture, source)
    d_model, n_heads = keys.size("embedding_length"), keys.size("attention.head_count")
    head_dim = keys.size("attention.key_length", d_model // n_heads)
    n_kv_heads = keys.size("attention.head_count_kv", n_heads)
    if n_heads % n_kv_heads:
        raise BadHeader(f"{n_heads} heads cannot share {n_kv_heads} key-value heads", file=source)
    return ModelConfig(
        family=family,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        d_ff=keys.size("feed_forward_length"),
        vocab_size=vocab_size,
        max_seq_len=_context(keys, rope_factors),
        layers=_layers(family, keys, head_dim, rope_factors),
        norm_eps=keys.number("attention.layer_norm_rms_epsilon", 1e-6),
        tied=tied,
        norms=traits.norms,
        qk_norm=traits.qk_norm,
        activation=traits.activation,
        fused_projections=traits.fused_projections,
        embed_scale=math.sqrt(d_model) if traits.scales_embeddings else keys.number("embedding_scale", 1.0),
        residual_scale=keys.number("residual_scale", 1.0),
        logit_scale=1 / keys.number("logit_scale", 1.0),
        attn_scale=_attn_scale(family, keys, d_model, n_heads),
        attn_softcap=keys.optional("attn_logit_softcapping") if family == "gemma2" else None,
        logit_softcap=keys.optional("final_logit_softcapping") if family == "gemma2" else None,
    )


class _Keys:
    """Typed look-ups of ``<architecture>.<key>``."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str, source: str) -> None:
        self._metadata, self._architecture, self._source = metadata, architecture, source

    def raw(self, key: str) -> Any:
        return self._metadata.get(f"{self._architecture}.{key}")

    def size(self, key: str, default: int | None = None) -> int:
        value = self.raw(key)
        value = default if value is None else value
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]  # some converters write one head count per layer
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 24:
            raise BadHeader(f"{self._architecture}.{key} cannot be {value!r}", file=self._source)
        return value

    def number(self, key: str, default: float) -> float:
        value = self.raw(key)
        value = default if value is None else value
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise BadHeader(f"{self._architecture}.{key} cannot be {value!r}", file=self._source)
        return float(value)

    def optional(self, key: str) -> float | None:
        return None if self.raw(key) is None else self.number(key, 1.0)


def _attn_scale(family: str, keys: _Keys, d_model: int, n_heads: int) -> float | None:
    if family == "granite":
        return keys.optional("attention.scale")
    # Gemma 2 and 3 at 27B scale by width per head; GGUF does not store it, the layer count tells (llama.cpp).
    if family in ("gemma2", "gemma3") and keys.size("block_count") in (46, 62) and d_model > 4000:
        return 1 / math.sqrt(d_model / n_heads)
    return None


def _context(keys: _Keys, rope_factors: tuple[float, ...] | None) -> int:
    context = keys.size("context_length", 2048)
    if keys.raw("rope.scaling.type") == "longrope" or (rope_factors and keys.raw("rope.scaling.attn_factor")):
        context = keys.size("rope.scaling.original_context_length", context)
    return context


def _layers(family: str, keys: _Keys, head_dim: int, rope_factors: tuple[float, ...] | None) -> tuple[Layer, ...]:
    n_layers = keys.size("block_count")
    dim = keys.size("rope.dimension_count", head_dim)
    linear = keys.raw("rope.scaling.type") == "linear"
    rope = Rope(
        theta=keys.number("rope.freq_base", 1e6 if family == "gemma3" else 10000.0),
        dim=dim,
        scale=keys.number("rope.scaling.factor", 1.0) if linear else 1.0,
        factors=rope_factors,
        attention_factor=keys.number("rope.scaling.attn_factor", 1.0) if family == "phi3" else 1.0,
    )
    window = keys.raw("attention.sliding_window")
    if family == "gemma3":
        local = Rope(keys.number("rope.freq_base_swa", 10000.0), dim)
        every = 6
        return tuple(Layer(window, local) if (i + 1) % every else Layer(None, rope) for i in range(n_layers))
    if family == "gemma2":
        return tuple(Layer(None if i % 2 else window, rope) for i in range(n_layers))
    if family == "smollm3":
        return tuple(Layer(None, rope if (i + 1) % 4 else None) for i in range(n_layers))
    if family in ("mistral", "phi3"):
        return (Layer(window or None, rope),) * n_layers
    return (Layer(None, rope),) * n_layers
