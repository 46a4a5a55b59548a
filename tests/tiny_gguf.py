"""GGUF files with a tokenizer of one's choice and the smallest model that llama.cpp agrees to load."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from nomoat.formats.gguf_write import float_tensor, write_gguf

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WIDTH = 32


def byte_level_keys(lines: Iterable[str], pre: str, *, size: int = 3000) -> dict[str, Any]:
    """``tokenizer.ggml.*`` of a BPE that learned merges across every kind of seam, so that each cut shows."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\S]{1,16}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    teacher = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator((line.replace("<|", "") for line in lines), teacher)
    learned = learner.get_vocab()
    tokens = SPECIALS + sorted(learned, key=lambda token: learned[token]) + ["[PAD]"]
    merges = [" ".join(merge) for merge in _merges(learner)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIALS) + [1] * len(learned) + [5],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return merges


def sentence_piece_keys(pieces: list[str], scores: list[float], *, space_first: bool) -> dict[str, Any]:
    """``tokenizer.ggml.*`` of a vocabulary that begins ``<unk> <s> </s>``, then 256 bytes."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*pieces, "[PAD]"],
        "tokenizer.ggml.scores": [float(score) for score in scores] + [-1000.0],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259) + [5],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": space_first,
    }


def write(path: Path, keys: dict[str, Any]) -> Path:
    """A one-layer llama of zeros around the tokenizer ``keys``."""
    n = len(keys["tokenizer.ggml.tokens"])
    sizes = {
        "general.architecture": "llama",
        "llama.context_length": 64,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": WIDTH,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": n,
    }
    tensors = {
        "token_embd.weight": np.zeros((n, WIDTH), np.float32),
        "output_norm.weight": np.ones(WIDTH, np.float32),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        tensors[f"blk.0.{name}.weight"] = np.zeros((WIDTH, WIDTH), np.float32)
    for name in ("attn_norm", "ffn_norm"):
        tensors[f"blk.0.{name}.weight"] = np.ones(WIDTH, np.float32)
    write_gguf(path, sizes | keys, [float_tensor(name, values) for name, values in tensors.items()])
    return path
