"""One LoRA step on a base with the shape of Llama-3.1-8B in Q4_0: random blocks, 4.5 GB on disk for as long as it runs.

    python bench/eight_billion.py [--tokens 256] [--policy mlp] [--limit 12]

Prints the peak of the process's resident set, and fails where it is above the limit (GiB). The weights mean nothing;
the memory and the time do not depend on what they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

SOURCE = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SOURCE))

from nomoat.formats.gguf_write import PlannedTensor, Value, float_tensor, write_gguf  # noqa: E402
from nomoat.formats.weights import Bytes  # noqa: E402

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, VOCABULARY = 4096, 14336, 32, 32, 8, 128256
ROWS_AT_ONCE = 1024
NEEDED_BYTES = 6 << 30
SIZES = {
    "general.architecture": "llama",
    "llama.context_length": 8192,
    "llama.embedding_length": WIDTH,
    "llama.block_count": LAYERS,
    "llama.feed_forward_length": INNER,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 500000.0,
    "llama.vocab_size": VOCABULARY,
}


def random_blocks(rows: int, columns: int) -> Iterator[Bytes]:
    """Q4_0 rows whose weights are about 1 / sqrt(columns) in size."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (ROWS_AT_ONCE, columns // 32, 18), dtype=np.uint8)
    blocks[:, :, :2] = np.full(1, columns**-0.5 / 4, np.float16).view(np.uint8)
    piece = blocks.reshape(ROWS_AT_ONCE, -1)
    for start in range(0, rows, ROWS_AT_ONCE):
        yield piece[: rows - start]


def matrix(name: str, rows: int, columns: int) -> PlannedTensor:
    return PlannedTensor(f"{name}.weight", "Q4_0", (rows, columns), partial(random_blocks, rows, columns))


def ones(name: str) -> PlannedTensor:
    return float_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))


def tensors() -> Iterator[PlannedTensor]:
    yield matrix("token_embd", VOCABULARY, WIDTH)
    yield matrix("output", VOCABULARY, WIDTH)
    yield ones("output_norm")
    keys = WIDTH // HEADS * KV_HEADS
    shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (keys, WIDTH), "attn_v": (keys, WIDTH), "attn_output": (WIDTH, WIDTH)}
    shapes |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
    for layer in range(LAYERS):
        yield ones(f"blk.{layer}.attn_norm")
        yield ones(f"blk.{layer}.ffn_norm")
        for name, shape in shapes.items():
            yield matrix(f"blk.{layer}.{name}", *shape)


def tokenizer() -> dict[str, Value]:
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    tokens += [f"[{i}]" for i in range(VOCABULARY - len(tokens))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [4] * (VOCABULARY - 257),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--policy", default="mlp")
    parser.add_argument("--limit", type=float, default=12.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eight-billion-") as folder:
        if shutil.disk_usage(folder).free < NEEDED_BYTES:
            sys.exit(f"{folder} has less than {NEEDED_BYTES >> 30} GiB free")
        path = Path(folder) / "random-8b.Q4_0.gguf"
        write_gguf(path, {**SIZES, **tokenizer()}, list(tensors()))
        print(f"{path.stat().st_size / 1e9:.2f} GB on disk", flush=True)
        command = [sys.executable, str(Path(__file__).with_name("memory.py")), str(path), "--child", "--steps", "1"]
        command += ["--tokens", str(options.tokens), "--policies", options.policy]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    got = json.loads(done.stdout.splitlines()[-1])
    peak = got["peak"] / (1 << 30)
    print(f"one step of {options.tokens} tokens ({options.policy}): peak {peak:.2f} GiB, {got['seconds']:.0f} s")
    if peak > options.limit:
        sys.exit(f"above {options.limit:g} GiB")


if __name__ == "__main__":
    main()
