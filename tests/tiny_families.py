"""One tiny random model of every family, as transformers makes it, and written to GGUF as llama.cpp's converter does.

Key and tensor names, and the reordering of q and k, are llama.cpp's converter's; they are written out here apart
from the package so that an error in one is seen in the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import SPECIALS, byte_tokenizer

transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

COMMON = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
# family -> transformers' class, what differs, keys of the file beside the common ones
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}, {"rope.dimension_count": 16}),
    "qwen2": ("Qwen2Config", {}, {}),
    "qwen3": ("Qwen3Config", {}, {}),
    "gemma2": (
        "Gemma2Config",
        {"query_pre_attn_scalar": 16, "sliding_window": 32, "hidden_activation": "gelu_pytorch_tanh"},
        {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "attention.sliding_window": 32},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {"query_pre_attn_scalar": 16, "sliding_window": 32, "num_hidden_layers": 7},
        {"attention.sliding_window": 32},
    ),
    "phi3": ("Phi3Config", {"sliding_window": None}, {"rope.dimension_count": 16}),
    "olmo2": ("Olmo2Config", {}, {}),
    "granite": (
        "GraniteConfig",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.6,
            "logits_scaling": 2.0,
        },
        {
            "embedding_scale": 3.0,
            "attention.scale": 0.2,
            "residual_scale": 0.6,
            "logit_scale": 2.0,
            "rope.dimension_count": 16,
        },
    ),
    "smollm3": ("SmolLM3Config", {}, {"rope.dimension_count": 16}),
}
PAIRS = {"llama", "granite", "smollm3"}
THETA = {"gemma3": 1e6, "smollm3": 2e6}
BLOCK = {
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
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_name(name: str, family: str) -> str:
    stem, _, kind = name.rpartition(".")
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    if stem in top:
        return f"{top[stem]}.{kind}"
    _, _, layer, inside = stem.split(".", 3)
    if inside == "post_attention_layernorm":
        inside = "post_attention_norm" if family.startswith(("gemma", "olmo")) else "ffn_norm"
        return f"blk.{layer}.{inside}.{kind}"
    return f"blk.{layer}.{BLOCK[inside]}.{kind}"


def to_pairs(weight: np.ndarray, n_heads: int) -> np.ndarray:
    rows = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, family: str, model: Any, extra: dict[str, Any]) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, family)
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
    } | extra
    for key, value in keys.items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        add(f"{family}.{key}", value)
    writer.add_float32(f"{family}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{family}.rope.freq_base", THETA.get(family, 10000.0))
    write_vocabulary(writer)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.float().numpy()
        if family.startswith("gemma") and "norm" in name:
            array = array + 1
        if family in PAIRS and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = to_pairs(array, heads)
        writer.add_tensor(gguf_name(name, family), np.ascontiguousarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_vocabulary(writer: Any) -> None:
    vocab = byte_tokenizer().get_vocab()
    words = [*sorted(vocab, key=vocab.__getitem__), "ab"]  # llama.cpp wants at least one merge
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in SPECIALS else 1 for word in words])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def reference(family: str) -> tuple[Any, dict[str, Any]]:
    class_name, changes, extra = CASES[family]
    torch.manual_seed(11)
    if family in THETA and family != "gemma3":
        changes = changes | {"rope_parameters": {"rope_type": "default", "rope_theta": THETA[family]}}
    config = getattr(transformers, class_name)(**(COMMON | changes))
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model, extra
