"""Real but tiny bases: random weights in a Hugging Face folder, a byte-level tokenizer, a ChatML template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from nomoat.model.load import Base, load_base

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "eos_token_id": 2,
    "bos_token_id": 0,
}


def byte_tokenizer(merges: Sequence[tuple[str, str]] = ()) -> Tokenizer:
    """One token a byte, three control tokens in front; with ``merges``, words are cut as GPT-2 cuts them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = [first + second for first, second in merges]
    vocab = {word: i for i, word in enumerate([*SPECIALS, *alphabet, *made])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(merges))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIALS])
    return tokenizer


def tiny_folder(
    folder: Path, family: str = "llama", *, seed: int = 0, merges: Sequence[tuple[str, str]] = (), **changes: Any
) -> Path:
    """Write a llama- or qwen2-shaped folder; ``changes`` override configuration keys."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer(merges)
    config = CONFIG | {"model_type": family, "vocab_size": tokenizer.get_vocab_size()} | changes
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_file(random_weights(config, seed), str(folder / "model.safetensors"))
    return folder


def random_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    d, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    n_q, n_kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": matrix(config["vocab_size"], d) * 4,
        "model.norm.weight": _near_one(rng, d),
    }
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = matrix(config["vocab_size"], d)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, size in (("q_proj", n_q), ("k_proj", n_kv), ("v_proj", n_kv)):
            weights[f"{layer}self_attn.{name}.weight"] = matrix(size, d)
            if config["model_type"] == "qwen2":
                weights[f"{layer}self_attn.{name}.bias"] = rng.normal(0, 0.1, size).astype(np.float32)
        weights[f"{layer}self_attn.o_proj.weight"] = matrix(d, n_q)
        weights[f"{layer}mlp.gate_proj.weight"] = matrix(inner, d)
        weights[f"{layer}mlp.up_proj.weight"] = matrix(inner, d)
        weights[f"{layer}mlp.down_proj.weight"] = matrix(d, inner)
        weights[f"{layer}input_layernorm.weight"] = _near_one(rng, d)
        weights[f"{layer}post_attention_layernorm.weight"] = _near_one(rng, d)
    return weights


def _near_one(rng: np.random.Generator, size: int) -> np.ndarray:
    return (1 + rng.normal(0, 0.1, size)).astype(np.float32)


def tiny_base(folder: Path, family: str = "llama", *, seed: int = 0, **changes: Any) -> Base:
    """Write a tiny folder and open it."""
    return load_base(tiny_folder(folder, family, seed=seed, **changes), name=f"tiny-{family}")
