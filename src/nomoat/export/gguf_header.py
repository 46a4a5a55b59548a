"""What a GGUF file says of a model that came from a Hugging Face folder: sizes, rotation, vocabulary, small tensors.

Keys: docs/gguf.md of the ggml repository; which family wants which, llama.cpp's ``convert_hf_to_gguf.py``. What is
written is checked by reading it back: see ``parity.py``.
"""

from __future__ import annotations

import re

from nomoat.core.errors import UnsupportedType
from nomoat.export.gguf_tokenizer import vocabulary_keys
from nomoat.export.layout import architecture, row_order
from nomoat.formats.gguf_write import PlannedTensor, Value, float_tensor
from nomoat.model.config import ModelConfig, Rope
from nomoat.model.decoder import RMSNorm
from nomoat.model.gguf_config import gguf_tensor_name
from nomoat.model.linear import Linear
from nomoat.model.load import Base

_PHI3_TOKENS = ("<unk>", "<s>", "<|endoftext|>")


def header_of(base: Base) -> dict[str, Value]:
    """All metadata of a base that is a folder."""
    c = base.decoder.config
    words: dict[str, Value] = {
        "general.architecture": architecture(c),
        "general.type": "model",
        "general.name": _name(base),
    }
    if base.licence:
        words["general.license"] = base.licence
    sizes = {f"{architecture(c)}.{key}": value for key, value in {**_sizes(c), **_rotation(c), **_own(c)}.items()}
    return words | sizes | vocabulary_keys(base.path, base.tokenizer, c.vocab_size)


def _name(base: Base) -> str:
    """llama.cpp tells by this name that special tokens take the white space after them along, as Phi-3's do, and then
    insists on three tokens of Phi-3's vocabulary (``src/llama-vocab.cpp``)."""
    has_all = all(base.tokenizer.encode(token)[1:] == [] for token in _PHI3_TOKENS)
    if base.decoder.config.family == "phi3" and has_all:
        return base.name if "phi-3" in base.name.lower() else f"Phi-3 {base.name}"
    return re.sub("phi-?3", "Phi 3", base.name, flags=re.IGNORECASE)


def _sizes(c: ModelConfig) -> dict[str, Value]:
    windows = [layer.window for layer in c.layers if layer.window]
    # llama.cpp's llama looks back without end: within a window that is the same
    context = min([c.max_seq_len, *windows]) if c.family == "mistral" else c.max_seq_len
    sizes: dict[str, Value] = {
        "context_length": context,
        "embedding_length": c.d_model,
        "block_count": c.n_layers,
        "feed_forward_length": c.d_ff,
        "vocab_size": c.vocab_size,
        "attention.head_count": c.n_heads,
        "attention.head_count_kv": c.n_kv_heads,
        "attention.key_length": c.head_dim,
        "attention.value_length": c.head_dim,
        "attention.layer_norm_rms_epsilon": float(c.norm_eps),
    }
    if windows and c.family in ("gemma2", "gemma3", "phi3"):
        sizes["attention.sliding_window"] = windows[0]
    return sizes


def _rotation(c: ModelConfig) -> dict[str, Value]:
    rope = main_rope(c)
    keys: dict[str, Value] = {"rope.freq_base": float(rope.theta), "rope.dimension_count": rope.dim}
    if rope.scale != 1.0:
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope.scale)}
    return keys


def _own(c: ModelConfig) -> dict[str, Value]:
    """Keys of single families."""
    if c.family == "granite":
        return {
            "embedding_scale": float(c.embed_scale),
            "residual_scale": float(c.residual_scale),
            "logit_scale": 1 / c.logit_scale,
            "attention.scale": c.softmax_scale,
        }
    if c.family == "gemma2":
        caps = {"attn_logit_softcapping": c.attn_softcap, "final_logit_softcapping": c.logit_softcap}
        return {key: float(cap) for key, cap in caps.items() if cap is not None}
    return {}


def main_rope(c: ModelConfig) -> Rope:
    """The rotation of the layers that see everything, which the unmarked keys describe."""
    ropes = [layer.rope for layer in c.layers if layer.rope is not None and layer.window is None]
    ropes += [layer.rope for layer in c.layers if layer.rope is not None]
    return ropes[0]


def side_tensors(base: Base) -> list[PlannedTensor]:
    """Norms, biases and the divisors of the rotary frequencies, all in float32."""
    c = base.decoder.config
    found = []
    for name, part in base.decoder.named_modules():
        if isinstance(part, RMSNorm):
            found.append(float_tensor(gguf_tensor_name(f"model.{name}.weight", c.norms), part.weight.numpy()))
        elif isinstance(part, Linear) and part.bias is not None:
            order = row_order(part.name, part.bias.shape[0], c)
            bias = part.bias if order is None else part.bias[order]
            found.append(float_tensor(gguf_tensor_name(f"{part.name}.bias", c.norms), bias.numpy()))
    factors = main_rope(c).factors
    if factors is not None and c.family == "phi3":
        raise UnsupportedType(
            f"{base.name} rotates by LongRoPE, whose long factors are not read",
            file=base.path,
            hint="take a GGUF file of the model as the base",
        )
    if factors is not None:
        found.append(float_tensor("rope_freqs.weight", base.decoder.norm.weight.new_tensor(factors).numpy()))
    return found
