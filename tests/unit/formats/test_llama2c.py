from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from nomoat.core.errors import BadHeader
from nomoat.formats.llama2c import read_model, read_tokenizer
from nomoat.model.tokenizer import from_pieces

STORIES = Path(__file__).parents[2] / "golden" / "stories260k"


def test_the_tokenizer_spells_the_golden_text() -> None:
    words = from_pieces(*read_tokenizer(STORIES / "tok512.bin"), "tok512.bin")
    text = (STORIES / "greedy.txt").read_text("utf-8")
    ids = words.encode(text)
    assert words.decode(ids) == text
    assert ids[:3] == [403, 407, 261]
    assert (words.bos_id, words.eos_id, words.vocab_size) == (1, 2, 512)


def test_the_model_has_the_shapes_of_its_header() -> None:
    config, tensors = read_model(STORIES / "stories260K.bin")
    assert (config["hidden_size"], config["num_hidden_layers"], config["num_key_value_heads"]) == (64, 5, 4)
    assert config["tie_word_embeddings"] and "lm_head.weight" not in tensors
    assert tensors["model.embed_tokens.weight"].shape == (512, 64)
    assert tensors["model.layers.4.self_attn.k_proj.weight"].shape == (32, 64)
    assert len(tensors) == 2 + 5 * 9
    assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in tensors.values())


def write(path: Path, header: tuple[int, ...], n_floats: int) -> Path:
    numbers = np.arange(n_floats, dtype="<f4")
    path.write_bytes(struct.pack("<7i", *header) + numbers.tobytes())
    return path


def floats(header: tuple[int, ...]) -> int:
    width, inner, layers, heads, kv_heads, vocab, length = header
    head = width // heads
    block = 2 * width + 2 * width * width + 2 * kv_heads * head * width + 3 * inner * width
    return abs(vocab) * width * (1 if vocab > 0 else 2) + layers * block + width + length * head


def test_rows_of_queries_go_from_pairs_to_halves(tmp_path: Path) -> None:
    header = (8, 4, 1, 2, 1, 3, 2)
    _, tensors = read_model(write(tmp_path / "m.bin", header, floats(header)))
    rows = tensors["model.layers.0.self_attn.q_proj.weight"][:, 0]
    first = 3 * 8 + 8  # after the embedding and the norm
    assert rows.tolist() == [first + 8 * row for row in (0, 2, 1, 3, 4, 6, 5, 7)]


def test_a_negative_vocabulary_means_a_head_of_its_own(tmp_path: Path) -> None:
    header = (8, 4, 1, 2, 1, -3, 2)
    config, tensors = read_model(write(tmp_path / "m.bin", header, floats(header)))
    assert not config["tie_word_embeddings"] and tensors["lm_head.weight"].shape == (3, 8)
    assert tensors["lm_head.weight"][-1, -1] == floats(header) - 1


@pytest.mark.parametrize(
    "header",
    [
        (0, 4, 1, 2, 1, 3, 2),
        (8, -4, 1, 2, 1, 3, 2),
        (8, 4, 1, 3, 1, 3, 2),
        (8, 4, 1, 2, 2**30, 3, 2),
        (2**20, 2**20, 2**20, 1, 1, 2**20, 2**20),
        (8, 4, 1, 2, 1, 4, 2),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_before_anything_is_read(
    header: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(BadHeader):
        read_model(write(tmp_path / "m.bin", header, 400))


@pytest.mark.parametrize("size", [0, 27, 28, 5000])
def test_a_cut_model_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes((STORIES / "stories260K.bin").read_bytes()[:size])
    with pytest.raises(BadHeader):
        read_model(path)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    whole = (STORIES / "tok512.bin").read_bytes()
    path = tmp_path / "t.bin"
    too_long = whole[:8] + struct.pack("<i", 2**30) + whole[12:]
    negative = whole[:8] + struct.pack("<i", -1) + whole[12:]
    not_a_number = whole[:4] + struct.pack("<f", float("nan")) + whole[8:]
    for data in (b"", whole[:6], whole[:-1], whole + b"\0\0", too_long, negative, not_a_number):
        path.write_bytes(data)
        with pytest.raises(BadHeader):
            read_tokenizer(path)
