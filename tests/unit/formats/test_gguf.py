from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest

import models
from nomoat.core.errors import BadHeader, NotFound, ShapeMismatch, UnsupportedType
from nomoat.formats.gguf import GgufFile

U32, STRING, ARRAY, BOOL, F32 = 4, 8, 9, 7, 6


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def entry(name: str, dims: Sequence[int], type_id: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type_id, offset)


def header(
    pairs: Sequence[bytes] = (),
    entries: Sequence[bytes] = (),
    *,
    version: int = 3,
    n_pairs: int | None = None,
    n_entries: int | None = None,
) -> bytes:
    counts = (
        len(entries) if n_entries is None else n_entries,
        len(pairs) if n_pairs is None else n_pairs,
    )
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(entries)


def padded(head: bytes, data: int, alignment: int = 32) -> bytes:
    return head + bytes(-len(head) % alignment) + bytes(data)


@pytest.fixture
def open_bytes(tmp_path: Path) -> Callable[[bytes], GgufFile]:
    def write_and_open(content: bytes) -> GgufFile:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return GgufFile.open(path)

    return write_and_open


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope.freq_base", 10000.5)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_int64("a.negative", -(2**40))
    writer.add_string("a.text", "Grüße 你好")
    writer.add_array("a.short", [1, -2, 3])
    writer.add_array("a.long", list(range(5000)))
    writer.add_array("a.words", ["a", "", "ß"] * 1000)
    writer.add_array("a.flags", [True, False])
    matrix = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor(
        "blk.0.attn_q.weight",
        gguf.quants.quantize(matrix, gguf.GGMLQuantizationType.Q8_0),
        raw_dtype=gguf.GGMLQuantizationType.Q8_0,
    )
    writer.add_tensor("blk.0.norm", np.arange(5, dtype=np.float32))
    writer.add_tensor("cube", np.arange(24, dtype=np.float16).reshape(2, 3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = GgufFile.open(path)

    assert file.metadata["general.architecture"] == "llama"
    assert file.metadata["llama.block_count"] == 2
    assert file.metadata["llama.rope.freq_base"] == 10000.5
    assert file.metadata["tokenizer.ggml.add_bos_token"] is True
    assert file.metadata["a.negative"] == -(2**40)
    assert file.metadata["a.text"] == "Grüße 你好"
    assert file.metadata["a.short"] == [1, -2, 3]
    assert np.array_equal(file.metadata["a.long"], np.arange(5000))
    assert file.metadata["a.words"] == ["a", "", "ß"] * 1000
    assert file.metadata["a.flags"] == [True, False]
    assert file.names() == ["blk.0.attn_q.weight", "blk.0.norm", "cube"]
    assert (file.type("blk.0.attn_q.weight"), file.shape("blk.0.attn_q.weight")) == ("Q8_0", (2, 32))
    assert file.data("blk.0.attn_q.weight").shape == (2, 34)
    assert file.data("blk.0.norm").view("<f4").tolist() == [[0, 1, 2, 3, 4]]
    assert file.shape("cube") == (2, 3, 4)
    assert np.array_equal(file.data("cube").view("<f2").reshape(2, 3, 4), np.arange(24).reshape(2, 3, 4))


@pytest.mark.real
def test_agrees_with_the_gguf_package_on_every_tensor_of_a_real_model() -> None:
    path = models.path("smollm2")  # the package needs 20 s to open the larger ones
    ours = GgufFile.open(path)
    theirs = gguf.GGUFReader(path)
    assert ours.names() == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.type == tensor.tensor_type.name
        assert mine.shape == tuple(int(d) for d in reversed(tensor.shape))
        assert (mine.offset, mine.size_bytes) == (int(tensor.data_offset), int(tensor.n_bytes))
    for key in ("tokenizer.ggml.tokens", "tokenizer.chat_template", "tokenizer.ggml.token_type"):
        field = theirs.get_field(key)
        if field is not None:
            expected = field.contents()
            assert np.array_equal(ours.metadata[key], expected)


@pytest.mark.real
def test_a_vocabulary_of_262_thousand_words_opens_in_under_a_second() -> None:
    path = models.path("gemma3")
    GgufFile.open(path)
    started = time.process_time()
    file = GgufFile.open(path)
    assert time.process_time() - started < 1.0
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 262144


def test_arrays_of_arrays_are_lists_of_lists(open_bytes: Callable[[bytes], GgufFile]) -> None:
    inner = struct.pack("<IQ", STRING, 1) + text("a"), struct.pack("<IQ2I", U32, 2, 5, 6)
    outer = pair("k", ARRAY, struct.pack("<IQ", ARRAY, 2) + b"".join(inner))
    assert open_bytes(padded(header([outer]), 0)).metadata == {"k": [["a"], [5, 6]]}


def test_data_is_a_read_only_view(open_bytes: Callable[[bytes], GgufFile]) -> None:
    file = open_bytes(padded(header(entries=[entry("w", [4])]), 16))
    view = file.data("w")
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1


def test_version_2_is_read_like_version_3(open_bytes: Callable[[bytes], GgufFile]) -> None:
    file = open_bytes(padded(header([pair("k", U32, struct.pack("<I", 7))], version=2), 0))
    assert file.metadata == {"k": 7}


def test_a_type_that_is_listed_but_not_read_is_refused_only_when_its_data_is_asked_for(
    open_bytes: Callable[[bytes], GgufFile],
) -> None:
    file = open_bytes(padded(header(entries=[entry("w", [256], type_id=16)]), 66))
    assert file.type("w") == "IQ2_XXS"
    with pytest.raises(UnsupportedType, match=r"model\.gguf: tensor 'w' is stored as IQ2_XXS"):
        file.data("w")


def test_a_missing_tensor_and_a_missing_file_say_so(open_bytes: Callable[[bytes], GgufFile], tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatch, match="'nothing' is missing"):
        open_bytes(padded(header(), 0)).data("nothing")
    with pytest.raises(NotFound):
        GgufFile.open(tmp_path / "absent.gguf")
    with pytest.raises(NotFound):
        GgufFile.open(tmp_path)


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file"),
    "only a magic": (b"GGUF", "not a GGUF file"),
    "another format": (b"PK\3\4" + bytes(100), "not a GGUF file"),
    "a truncated pair": (header([pair("key", STRING, text("value"))])[:-3], "takes 5 bytes"),
    "a key count beyond the file": (header(n_pairs=2**63), "metadata keys"),
    "a key count that only just does not fit": (header(n_pairs=1), "takes 13 bytes"),
    "a tensor count beyond the file": (header(n_entries=2**64 - 1), "tensors"),
    "a tensor count that only just does not fit": (header(n_entries=1), "takes 32 bytes"),
    "a key length beyond the file": (
        header([struct.pack("<Q", 2**62) + bytes(40)]),
        "claims 4611686018427387904 bytes",
    ),
    "a string length beyond the file": (
        header([pair("k", STRING, struct.pack("<Q", 1 << 25) + bytes(40))]),
        "takes 33554432 bytes",
    ),
    "a string that is not text": (header([pair("k", STRING, text(b"\xff\xfe"))]), "not UTF-8"),
    "a key that is not text": (header([text(b"\xff") + bytes(40)]), "not UTF-8"),
    "a key twice": (header([pair("k", U32, bytes(4))] * 2), "'k' occurs twice"),
    "an unknown value type": (header([pair("k", 13, bytes(40))]), "unknown type 13"),
    "an unknown element type": (
        header([pair("k", ARRAY, struct.pack("<IQ", 99, 1) + bytes(40))]),
        "unknown element type 99",
    ),
    "a boolean of 2": (header([pair("k", BOOL, b"\2" + bytes(40))]), "boolean with the value 2"),
    "an array with a boolean of 2": (
        header([pair("k", ARRAY, struct.pack("<IQ", BOOL, 2) + b"\1\2")]),
        "something else than 0 and 1",
    ),
    "a number array beyond the file": (
        header([pair("k", ARRAY, struct.pack("<IQ", F32, 2**61) + bytes(40))]),
        "array 'k' takes",
    ),
    "a string array beyond the file": (
        header([pair("k", ARRAY, struct.pack("<IQ", STRING, 1000) + bytes(40))]),
        "array 'k' takes",
    ),
    "a string array of billions": (
        header([pair("k", ARRAY, struct.pack("<IQ", STRING, 2**40) + bytes(40))]),
        "claims 1099511627776 elements",
    ),
    "a string in an array beyond the file": (
        header([pair("k", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + struct.pack("<Q", 2**63))]),
        "string 1 of array 'k' runs past",
    ),
    "a string array that ends early": (
        header([pair("k", ARRAY, struct.pack("<IQ", STRING, 2) + text("abcdefgh"))]),
        "ends after 1 of 2",
    ),
    "a string in an array that is not text": (
        header([pair("k", ARRAY, struct.pack("<IQ", STRING, 1) + text(b"\xff"))]),
        "string 0 of array 'k' is not UTF-8",
    ),
    "arrays in arrays without end": (
        header([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 50 + bytes(40))]),
        "more than 4 deep",
    ),
    "an alignment of 0": (header([pair("general.alignment", U32, bytes(4))]), "not a power of two"),
    "an alignment of 24": (
        header([pair("general.alignment", U32, struct.pack("<I", 24))]),
        "alignment is 24, not a power of two",
    ),
    "an alignment of 2^31": (
        header([pair("general.alignment", U32, struct.pack("<I", 2**31))]),
        "not a power of two up to",
    ),
    "an alignment that is a word": (
        header([pair("general.alignment", STRING, text("wide"))]),
        "not a power of two",
    ),
    "no dimensions": (header(entries=[entry("w", [])]) + bytes(40), "claims 0 dimensions"),
    "five dimensions": (header(entries=[entry("w", [1] * 5)]) + bytes(40), "claims 5 dimensions"),
    "a dimension of 0": (padded(header(entries=[entry("w", [4, 0])]), 64), "dimension of 0"),
    "dimensions whose product overflows 64 bits": (
        padded(header(entries=[entry("w", [2**40, 2**40, 2**40, 2**40])]), 64),
        "of a file of",
    ),
    "a row of a part of a block": (
        padded(header(entries=[entry("w", [33], type_id=8)]), 64),
        "not whole Q8_0 blocks",
    ),
    "data beyond the file": (padded(header(entries=[entry("w", [17])]), 64), "of a file of"),
    "an offset beyond the file": (
        padded(header(entries=[entry("w", [1], offset=2**63)]), 64),
        "of a file of",
    ),
    "an offset that is not aligned": (
        padded(header(entries=[entry("w", [1], offset=4)]), 64),
        "not a multiple of 32",
    ),
    "a tensor twice": (padded(header(entries=[entry("w", [1])] * 2), 64), "'w' occurs twice"),
    "tensors that overlap": (
        padded(header(entries=[entry("v", [16]), entry("w", [8], offset=32)]), 64),
        "'v' and 'w' lie on each other",
    ),
    "a tensor name that is too long": (
        padded(header(entries=[entry("w" * 2000, [1])]), 64),
        "claims 2000 bytes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_a_header_that_cannot_be_true(case: str, open_bytes: Callable[[bytes], GgufFile]) -> None:
    content, message = REFUSED[case]
    tracemalloc.start()
    try:
        with pytest.raises(BadHeader) as caught:
            open_bytes(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert "model.gguf" in str(caught.value)
    assert peak < 1 << 20


def test_unknown_types_versions_byte_orders_and_split_files_are_refused_by_name(
    open_bytes: Callable[[bytes], GgufFile],
) -> None:
    cases = {
        "type number 1234": padded(header(entries=[entry("w", [32], type_id=1234)]), 64),
        "GGUF version 1;": padded(header(version=1), 0),
        "GGUF version 4;": padded(header(version=4), 0),
        "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "one of 3 parts": padded(header([pair("split.count", 2, struct.pack("<H", 3))]), 0),
    }
    for message, content in cases.items():
        with pytest.raises(UnsupportedType, match=message):
            open_bytes(content)
