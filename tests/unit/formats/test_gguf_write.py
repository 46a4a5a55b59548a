"""What the writer writes is what our reader and the ``gguf`` package read, and it is written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.core.errors import FormatError, ShapeMismatch
from nomoat.formats.gguf import GgufFile
from nomoat.formats.gguf_write import PlannedTensor, float_tensor, stream_gguf, write_gguf

KEYS: dict[str, Any] = {
    "general.architecture": "llama",
    "a.uint": 7,
    "a.negative": -3,
    "a.large": 1 << 40,
    "a.fraction": 0.1,
    "a.truth": True,
    "a.words": ["eins", "zwölf", ""],
    "a.whole": [3, -1, 2],
    "a.mixed": [0.5, 2, -1],
    "a.truths": [True, False],
    "a.empty": [],
}


def tensors() -> list[PlannedTensor]:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 200, (5, 34), dtype=np.uint8)
    return [
        float_tensor("one", rng.normal(size=3).astype(np.float32)),
        PlannedTensor("blk.0.x.weight", "Q8_0", (5, 32), lambda: (blocks[i : i + 2] for i in (0, 2, 4))),
        float_tensor("three", rng.normal(size=(2, 3, 4)).astype(np.float32)),
    ]


def test_our_reader_reads_every_value_and_every_block_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.gguf"
    write_gguf(path, KEYS, tensors())
    file = GgufFile.open(path)
    assert file.metadata == KEYS | {"a.fraction": np.float32(0.1)}
    for tensor in tensors():
        assert (file.type(tensor.name), file.shape(tensor.name)) == (tensor.type, tensor.shape)
        assert file.data(tensor.name).tobytes() == b"".join(piece.tobytes() for piece in tensor.pieces())


def test_the_gguf_package_reads_the_same(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", KEYS, tensors())
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    found = {key: reader.fields[key].contents() for key in KEYS if key != "a.empty"}
    assert found == {key: value for key, value in KEYS.items() if key != "a.empty"} | {"a.fraction": np.float32(0.1)}
    for tensor, ours in zip(reader.tensors, tensors(), strict=True):
        assert tensor.name == ours.name and tensor.data.tobytes() == b"".join(p.tobytes() for p in ours.pieces())


@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_tensors_begin_at_multiples_of_the_alignment(tmp_path: Path, alignment: int) -> None:
    write_gguf(tmp_path / "a.gguf", {"general.alignment": alignment}, tensors())
    file = GgufFile.open(tmp_path / "a.gguf")
    assert all(tensor.offset % alignment == 0 for tensor in file.tensors.values())
    assert (tmp_path / "a.gguf").stat().st_size % alignment == 0


def test_a_copied_value_is_carried_over_byte_for_byte(tmp_path: Path) -> None:
    theirs = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    theirs.add_uint64("x.count", 5)  # a type that we would not have chosen
    theirs.add_array("x.list", [1.0, 2.0])
    theirs.add_uint32("general.alignment", 64)
    theirs.write_header_to_file()
    theirs.write_kv_data_to_file()
    theirs.close()
    first = GgufFile.open(tmp_path / "theirs.gguf")
    copied: dict[str, Any] = {key: first.stored_value(key) for key in first.metadata}
    write_gguf(tmp_path / "ours.gguf", copied, tensors())
    second = GgufFile.open(tmp_path / "ours.gguf")
    assert {key: second.stored_value(key) for key in second.metadata} == copied
    assert all(tensor.offset % 64 == 0 for tensor in second.tensors.values())


def test_the_same_input_gives_the_same_bytes_and_progress_reaches_the_end(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a", KEYS, tensors())
    told = list(stream_gguf(tmp_path / "b", KEYS, tensors()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert told == sorted(set(told)) and told[-1] == sum(tensor.size_bytes for tensor in tensors())


def test_a_writer_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    writing = stream_gguf(tmp_path / "a", KEYS, tensors())
    next(writing)
    writing.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_gives_too_little_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"old")
    short = PlannedTensor("t", "F32", (2, 2), lambda: [np.zeros((1, 8), np.uint8)])
    with pytest.raises(ShapeMismatch, match="8 bytes"):
        write_gguf(tmp_path / "a.gguf", {}, [short])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.gguf"]
    assert (tmp_path / "a.gguf").read_bytes() == b"old"


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    one = float_tensor("t", np.zeros(1, np.float32))
    with pytest.raises(FormatError, match="same name"):
        write_gguf(tmp_path / "a.gguf", {}, [one, one])
    with pytest.raises(FormatError, match="alignment"):
        write_gguf(tmp_path / "a.gguf", {"general.alignment": 3}, [one])
    with pytest.raises(ShapeMismatch, match="not whole Q8_0 blocks"):
        write_gguf(tmp_path / "a.gguf", {}, [PlannedTensor("t", "Q8_0", (1, 33), list)])


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=9),
        st.one_of(
            st.text(max_size=20),
            st.booleans(),
            st.integers(-(1 << 31), (1 << 64) - 1),
            st.floats(width=32, allow_nan=False),
            st.lists(st.text(max_size=5), max_size=4),
            st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=4),
        ),
        max_size=6,
    )
)
def test_any_metadata_come_back(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.gguf"
    write_gguf(path, keys, [])
    assert GgufFile.open(path).metadata == keys
