"""The files of llama2.c: a legacy ("version 0") checkpoint and its tokenizer.

Format: ``run.c`` and ``export.py`` of karpathy/llama2.c. Seven int32, then float32 tensors in a fixed order; the
tokenizer is an int32 followed by (float32 score, int32 length, bytes) to the end of the file.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nomoat.core.errors import BadHeader
from nomoat.core.files import disk_errors

Tensors: TypeAlias = dict[str, npt.NDArray[np.float32]]

_HEADER = struct.Struct("<7i")
_ENTRY = struct.Struct("<fi")
_MAX_DIMENSION = 1 << 20
_MAX_TOKEN_BYTES = 1 << 16
_FIRST = ("<unk>", "<s>", "</s>")


def read_tokenizer(path: Path) -> tuple[list[str], list[float]]:
    """Pieces as SentencePiece writes them (``▁`` for a space) and their scores. Raises ``BadHeader``."""
    with disk_errors(path):
        data = path.read_bytes()
    pieces: list[str] = []
    scores: list[float] = []
    at = 4  # the length of the longest piece, of no use here
    if len(data) < at + _ENTRY.size:
        raise BadHeader(f"{len(data)} bytes are too few for a llama2.c tokenizer", file=path)
    while at < len(data):
        if at + _ENTRY.size > len(data):
            raise BadHeader(f"entry {len(pieces)} is cut off (byte {at})", file=path)
        score, size = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if not 0 <= size <= min(_MAX_TOKEN_BYTES, len(data) - at) or not np.isfinite(score):
            raise BadHeader(f"entry {len(pieces)} claims {size} bytes and score {score} (byte {at})", file=path)
        pieces.append(_piece(data[at : at + size], len(pieces), path))
        scores.append(score)
        at += size
    return pieces, scores


def _piece(text: bytes, number: int, path: Path) -> str:
    if number < len(_FIRST):
        return _FIRST[number]  # the exporter writes BOS and EOS with line breaks, to look well when printed
    try:
        return text.decode("utf-8").replace(" ", "▁")
    except UnicodeDecodeError as error:
        raise BadHeader(f"piece {number} is not UTF-8", file=path) from error


def read_model(path: Path) -> tuple[dict[str, Any], Tensors]:
    """The configuration with Hugging Face's keys, and float32 tensors with its llama names, (out, in).

    Query and key rows are put in the order for rotating halves. Raises ``BadHeader`` unless the file has exactly
    the size that its header gives.
    """
    with disk_errors(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise BadHeader(f"{size} bytes are too few for a llama2.c checkpoint", file=path)
    width, inner, layers, heads, kv_heads, vocab, length = _HEADER.unpack(head)
    tied, vocab = vocab > 0, abs(vocab)
    _check((width, inner, layers, heads, kv_heads, vocab, length), path)
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width // heads,
        "vocab_size": vocab,
        "max_position_embeddings": length,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return config, _tensors(path, config, size)


def _check(numbers: tuple[int, ...], path: Path) -> None:
    width, _, _, heads, kv_heads, _, _ = numbers
    if not all(0 < number <= _MAX_DIMENSION for number in numbers):
        raise BadHeader(f"dimensions {numbers} cannot be true", file=path)
    if width % heads or heads % kv_heads or width // heads % 2:
        raise BadHeader(f"{heads} heads and {kv_heads} kv heads do not fit a width of {width}", file=path)


def _tensors(path: Path, config: dict[str, Any], size: int) -> Tensors:
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv_heads, head = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    vocab, length = config["vocab_size"], config["max_position_embeddings"]
    order: list[tuple[str, tuple[int, ...]]] = [
        ("model.embed_tokens", (vocab, width)),
        ("input_layernorm", (layers, width)),
        ("self_attn.q_proj", (layers, width, width)),
        ("self_attn.k_proj", (layers, kv_heads * head, width)),
        ("self_attn.v_proj", (layers, kv_heads * head, width)),
        ("self_attn.o_proj", (layers, width, width)),
        ("post_attention_layernorm", (layers, width)),
        ("mlp.gate_proj", (layers, inner, width)),
        ("mlp.down_proj", (layers, width, inner)),
        ("mlp.up_proj", (layers, inner, width)),
        ("model.norm", (width,)),
        ("", (2, length, head // 2)),  # tables of cosines and sines
    ]
    if not config["tie_word_embeddings"]:
        order.append(("lm_head", (vocab, width)))
    counts = [int(np.prod(shape, dtype=object)) for _, shape in order]
    if _HEADER.size + 4 * sum(counts) != size:
        raise BadHeader(f"has {size} bytes, its header gives {_HEADER.size + 4 * sum(counts)}", file=path)
    with disk_errors(path):
        flat = np.fromfile(path, dtype="<f4", offset=_HEADER.size).astype(np.float32, copy=False)
    tensors: Tensors = {}
    for (name, shape), part in zip(order, np.split(flat, np.cumsum(counts)[:-1]), strict=True):
        block = part.reshape(shape)
        if name in ("self_attn.q_proj", "self_attn.k_proj"):
            block = _halves(block, heads if name.endswith("q_proj") else kv_heads)
        if name.startswith(("model.", "lm_head")):
            tensors[f"{name}.weight"] = block
        elif name:
            tensors |= {f"model.layers.{i}.{name}.weight": block[i] for i in range(layers)}
    return tensors


def _halves(block: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """(layers, heads * head_dim, width) from neighbouring pairs to halves of each head."""
    layers, rows, width = block.shape
    pairs = block.reshape(layers, heads, rows // heads // 2, 2, width)
    return np.ascontiguousarray(pairs.swapaxes(2, 3).reshape(block.shape))
