"""A damaged file raises a ``FormatError`` and nothing else, quickly and in little memory, or it reads in full.

Thousands of seeded mutations of small files with the shape of real ones. A failure names its seed.
"""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nomoat.core.errors import FormatError
from nomoat.formats.blocks import TYPES
from nomoat.formats.gguf import GgufFile
from nomoat.formats.hf import read_config
from nomoat.formats.peft import read_adapter, write_adapter
from nomoat.formats.peft_config import MAX_RANK
from nomoat.formats.safetensors import SafetensorsFolder
from nomoat.formats.weights import Weights
from nomoat.kernels import blocks

MUTATIONS = 1200
MAX_PEAK_BYTES = 4 << 20  # the files have some ten kilobytes
MAX_SECONDS = 2.0  # of processor time, for one file

NUMBERS = [
    0,
    1,
    2,
    7,
    8,
    9,
    12,
    13,
    31,
    33,
    255,
    256,
    1 << 20,
    *((1 << n) - d for n in (31, 32, 40, 63, 64) for d in (1, 2)),
]
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 3, 2**31, 2**63, 2**64, 10**30, 1e308, -0.5, float("nan"), float("inf"), "",
    "x" * 5000, "../../../etc/passwd", "/dev/zero", "\ud800",
    "F64", "I8", "BF16", "IA3", "pissa", "(a+)+$", [], {}, [[]], [0, 0],
    [0, 2**62], [2**40, 2**40], [-1, 4], {"a": {}}, [[[[[[[[]]]]]]]], ["q_proj"], {"q_proj": 4},
]  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random, head: int) -> bytes:
    """Change one or a few places, most of them in the first ``head`` bytes, where the lengths are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(min(head, len(data)) if rng.random() < 0.85 else len(data)) if data else 0
        kind = rng.randrange(7)
        if kind == 0:
            for _ in range(rng.choice((1, 2, 8))):
                data[at : at + 1] = bytes([data[at] ^ (1 << rng.randrange(8))]) if data else b""
        elif kind == 1:
            width = rng.choice((4, 8))
            data[at : at + width] = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, "little")
        elif kind == 2:
            del data[rng.choice((at, rng.randrange(len(data) + 1))) :]
        elif kind == 3:
            del data[at : at + rng.choice((1, 4, 8, 100))]
        elif kind == 4:
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.choice((1, 8, 64, 500))]
        elif kind == 5:
            start = rng.randrange(len(data) + 1)
            piece = data[start : start + rng.choice((4, 8, 64))]
            data[at : at + len(piece)] = piece
        else:
            data += rng.randbytes(rng.choice((1, 32, 1000)))
    return bytes(data)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Put a hostile value somewhere into a tree of JSON."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        changed = {**value, key: mutate_value(value[key], rng)}
        if rng.random() < 0.15:
            changed.pop(key)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.6:
        index = rng.randrange(len(value))
        return [*value[:index], mutate_value(value[index], rng), *value[index + 1 :]]
    return rng.choice(VALUES)


def mutate_header(content: bytes, rng: random.Random) -> bytes:
    """Change the JSON header of a safetensors file and keep its length field right."""
    size = int.from_bytes(content[:8], "little")
    text = json.dumps(mutate_value(json.loads(content[8 : 8 + size]), rng)).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def mutate_file(path: Path, content: bytes, rng: random.Random) -> bytes:
    if path.suffix == ".json" and rng.random() < 0.8:
        return json.dumps(mutate_value(json.loads(content), rng)).encode()
    if path.suffix == ".safetensors" and rng.random() < 0.6:
        return mutate_header(content, rng)
    return mutate_bytes(content, rng, 8000 if path.suffix == ".gguf" else 1000)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    started = time.process_time()
    try:
        yield
    except FormatError as error:
        assert error.message and error.file is not None, what
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error
    assert time.process_time() - started < MAX_SECONDS, what
    assert tracemalloc.get_traced_memory()[1] - before < MAX_PEAK_BYTES, what


def read_everything(weights: Weights) -> None:
    """Every byte that the header claims, through the compiled kernels where they are built."""
    for name in weights.names():
        kind = weights.type(name)
        if kind not in TYPES:
            continue
        try:
            data = weights.data(name)
        except FormatError:  # an empty tensor of a safetensors file
            continue
        assert not data.flags.writeable
        values = blocks.expand(blocks.from_view(data), kind)
        assert values.numel() == prod(weights.shape(name))


def torment(path: Path, read: Callable[[], None], n: int, salt: int) -> int:
    """Read ``n`` mutations of ``path``; return how many were refused."""
    content, refused = path.read_bytes(), 0
    read()
    tracemalloc.start()
    try:
        for seed in range(n):
            path.write_bytes(mutate_file(path, content, random.Random(seed * 1000 + salt)))
            with guarded(f"mutation {seed} (salt {salt}) of {path.name}"):
                refused += 1
                read()
                refused -= 1
    finally:
        tracemalloc.stop()
        path.write_bytes(content)
    return refused


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(256)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_add_bos_token(True)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"wörd{i}" for i in range(60)])
    writer.add_token_scores([-float(i) for i in range(60)])
    writer.add_token_types([1] * 60)
    writer.add_token_merges([f"a{i} b{i}" for i in range(40)])
    writer.add_array("long", list(range(1200)))
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    for number, (name, kind) in enumerate(TYPES.items()):
        raw = rng.integers(0, 60, (1 + number % 3, kind.row_bytes(256)), dtype=np.uint8)
        tensor = raw if kind.block_size > 1 or name == "BF16" else raw.view({"F32": "<f4", "F16": "<f2"}[name])
        writer.add_tensor(f"blk.0.{name}.weight", tensor, raw_dtype=gguf.GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    shards = [
        {"model.embed_tokens.weight": torch.randn(9, 8).bfloat16(), "model.norm.weight": torch.randn(8)},
        {"lm_head.weight": torch.randn(9, 8).half(), "position_ids": torch.arange(4), "scale": torch.tensor(1.0)},
    ]
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file(shard, tmp_path / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8, "rope": {"type": "x"}}))
    return tmp_path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    config = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "embed_tokens"], "bias": "none",
        "rank_pattern": {"q_proj": 2}, "alpha_pattern": {}, "use_dora": True, "use_rslora": False, "revision": None,
        "base_model_name_or_path": "a/b", "init_lora_weights": True, "modules_to_save": None, "task_type": "CAUSAL_LM",
    }  # fmt: skip
    q, embed = "base_model.model.model.layers.0.self_attn.q_proj", "base_model.model.model.embed_tokens"
    tensors = {
        f"{q}.lora_A.weight": np.ones((2, 8), np.float32),
        f"{q}.lora_B.weight": np.ones((6, 2), np.float32),
        f"{q}.lora_magnitude_vector": np.ones(6, np.float32),
        f"{embed}.lora_embedding_A": np.ones((2, 9), np.float32),
        f"{embed}.lora_embedding_B": np.ones((8, 2), np.float32),
        f"{embed}.lora_magnitude_vector": np.ones(8, np.float32),
    }
    write_adapter(tmp_path, config, tensors)
    return tmp_path


def test_a_mutated_gguf_file_is_refused_or_read_in_full(model: Path) -> None:
    refused = torment(model, lambda: read_everything(GgufFile.open(model)), MUTATIONS, salt=1)
    assert 0.3 * MUTATIONS < refused < MUTATIONS  # both ends of the law are tried


def test_every_truncation_of_a_gguf_file_is_refused(model: Path) -> None:
    content = model.read_bytes()
    last = max(t.offset + t.size_bytes for t in GgufFile.open(model).tensors.values())
    for size in [*range(0, 3000, 13), *range(3000, last, 501), last - 1]:
        model.write_bytes(content[:size])
        with pytest.raises(FormatError):
            GgufFile.open(model)


@pytest.mark.parametrize(
    "name", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
)
def test_a_mutated_safetensors_folder_is_refused_or_read_in_full(name: str, hf_folder: Path) -> None:
    def read() -> None:
        read_everything(SafetensorsFolder.open(hf_folder))

    refused = torment(hf_folder / name, read, MUTATIONS // 3, salt=2)
    assert 0.3 * MUTATIONS // 3 < refused < MUTATIONS // 3


def test_a_mutated_model_configuration_is_refused_or_read(hf_folder: Path) -> None:
    def read() -> None:
        assert isinstance(read_config(hf_folder), dict)

    torment(hf_folder / "config.json", read, 300, salt=3)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_mutated_adapter_is_refused_or_read_in_full(name: str, adapter: Path) -> None:
    def read() -> None:
        files = read_adapter(adapter)
        for tensor in files.tensors.values():
            assert tensor.dtype == np.float32
            assert np.isfinite(tensor).all()
        assert 1 <= files.config["r"] <= MAX_RANK

    refused = torment(adapter / name, read, MUTATIONS // 2, salt=4)
    assert 0.2 * MUTATIONS // 2 < refused < MUTATIONS // 2
