from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import numpy as library
from safetensors.torch import save_file

from nomoat.core.errors import BadHeader, FormatError, NotFound, ShapeMismatch, UnsupportedType
from nomoat.formats.blocks import dequantize
from nomoat.formats.safetensors import SafetensorsFolder
from nomoat.formats.safetensors_file import SafetensorsFile, encode
from nomoat.formats.weights import Weights

TENSORS = {
    "embed": torch.randn(7, 4).bfloat16(),
    "norm": torch.randn(4),
    "cube": torch.randn(2, 3, 4).half(),
    "one": torch.tensor(2.5),
}


def raw(header: Any, data: int = 0, *, claim: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claim is None else claim) + text + bytes(data)


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"embed": TENSORS["embed"], "norm": TENSORS["norm"]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"cube": TENSORS["cube"], "one": TENSORS["one"]}, tmp_path / "model-00002-of-00002.safetensors")
    place = {"embed": 1, "norm": 1, "cube": 2, "one": 2}
    index = {"metadata": {}, "weight_map": {k: f"model-0000{v}-of-00002.safetensors" for k, v in place.items()}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def check_tensors(weights: Weights) -> None:
    assert sorted(weights.names()) == sorted(TENSORS)
    for name, expected in TENSORS.items():
        assert weights.shape(name) == tuple(expected.shape)
        rows = expected.shape[:-1].numel()
        data = weights.data(name)
        assert data.shape == (rows, expected.numel() // rows * expected.element_size())
        values = dequantize(data, weights.type(name)).reshape(weights.shape(name))
        assert torch.equal(torch.from_numpy(values), expected.float())


def test_a_folder_with_one_file_gives_the_tensors_that_were_saved(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    folder = SafetensorsFolder.open(tmp_path)
    check_tensors(folder)
    assert [folder.type(name) for name in TENSORS] == ["BF16", "F32", "F16", "F32"]


def test_a_folder_with_shards_gives_the_tensors_that_were_saved(sharded: Path) -> None:
    check_tensors(SafetensorsFolder.open(sharded))


def test_shards_may_be_links_as_in_the_cache_of_the_hub(
    sharded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blob = tmp_path_factory.mktemp("blobs") / "4711"
    shard = sharded / "model-00001-of-00002.safetensors"
    shard.rename(blob)
    shard.symlink_to(blob)
    check_tensors(SafetensorsFolder.open(sharded))


def test_what_is_written_is_read_by_the_library_and_is_always_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "ä": np.float32([1.5])}
    content = encode(tensors, {"z": "1", "a": "ü"})
    assert content == encode(dict(reversed(tensors.items())), {"a": "ü", "z": "1"})
    read = library.load(content)
    assert {name: value.tolist() for name, value in read.items()} == {"b": [[0, 1, 2], [3, 4, 5]], "ä": [1.5]}
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    file = SafetensorsFile.open(path)
    assert file.metadata == {"z": "1", "a": "ü"}
    assert file.tensors["b"].offset % 8 == 0


def test_a_missing_tensor_an_integer_one_and_an_empty_one_are_refused_when_asked_for(tmp_path: Path) -> None:
    save_file(
        {"position_ids": torch.arange(3), "none": torch.zeros(0, 5), "w": torch.ones(2)},
        tmp_path / "model.safetensors",
    )
    folder = SafetensorsFolder.open(tmp_path)
    with pytest.raises(ShapeMismatch, match="'absent' is missing"):
        folder.data("absent")
    with pytest.raises(UnsupportedType, match="stored as I64"):
        folder.data("position_ids")
    with pytest.raises(ShapeMismatch, match="'none' is empty"):
        folder.data("none")
    assert folder.data("w").shape == (1, 8)


def test_pickled_weights_and_a_folder_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="neither"):
        SafetensorsFolder.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UnsupportedType, match="pickled") as caught:
        SafetensorsFolder.open(tmp_path)
    assert "safetensors" in caught.value.hint


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "seven bytes": (bytes(7), "too short"),
    "a header longer than the file": (raw({}, claim=100), "claims a header of 100 bytes"),
    "a header of 2^63 bytes": (raw({}, claim=2**63), "claims a header"),
    "a header that is not JSON": (raw(b"{nope}"), "not valid JSON"),
    "a header that is not text": (raw(b"\xff\xfe\xfd"), "not valid JSON"),
    "a header that is a list": (raw([]), "not a JSON object"),
    "a header of brackets": (raw(b"[" * 100_000), "not valid JSON"),
    "a header of very many values": (raw(b'{"a":[' + b"[]," * (1 << 22) + b"0]}"), "JSON of more than"),
    "a number of too many digits": (raw(b'{"a":' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "a tensor twice": (
        raw(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", 8),
        "occurs twice",
    ),
    "metadata that is not text": (raw({"__metadata__": {"a": 1}}), "not a map of text"),
    "metadata that is a list": (raw({"__metadata__": []}), "not a map of text"),
    "a tensor that is a number": (raw({"a": 1}), "'a' has no dtype"),
    "a tensor without a type": (raw({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4), "'a' has no dtype"),
    "a tensor with an extra key": (raw({"a": {**entry(), "b": 1}}, 8), "'a' has no dtype"),
    "a shape of text": (raw({"a": entry(shape="2")}, 8), "has the shape '2'"),
    "a negative dimension": (raw({"a": entry(shape=[-2])}, 8), "has the shape"),
    "a dimension that is true": (raw({"a": entry(shape=[True, 2])}, 8), "has the shape"),
    "a broken dimension": (raw({"a": entry(shape=[2.0])}, 8), "has the shape"),
    "seventeen dimensions": (raw({"a": entry(shape=[1] * 16 + [2])}, 8), "has the shape"),
    "dimensions that overflow": (raw({"a": entry(shape=[2**32, 2**32, 2**32])}, 8), "does not fit"),
    "offsets beyond the file": (raw({"a": entry(shape=[4], offsets=[0, 16])}, 8), "does not fit"),
    "offsets in reverse": (raw({"a": entry(offsets=[8, 0])}, 8), "does not fit"),
    "negative offsets": (raw({"a": entry(offsets=[-8, 0])}, 8), "data_offsets"),
    "three offsets": (raw({"a": entry(offsets=[0, 8, 8])}, 8), "data_offsets"),
    "offsets that do not hold the shape": (raw({"a": entry(shape=[3])}, 8), "does not fit"),
    "tensors that overlap": (raw({"a": entry(), "b": entry(offsets=[4, 12])}, 12), "begins at byte"),
    "a gap": (raw({"a": entry(), "b": entry(offsets=[12, 20])}, 20), "begins at byte"),
    "bytes after the last tensor": (raw({"a": entry()}, 9), "end at byte"),
    "a truncated tensor": (raw({"a": entry()}, 7), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_a_header_that_cannot_be_true(case: str, tmp_path: Path) -> None:
    content, message = REFUSED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadHeader) as caught:
            SafetensorsFolder.open(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert "model.safetensors" in str(caught.value)
    assert peak < 2 * len(content) + (1 << 20)


def test_an_unknown_element_type_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(raw({"a": entry(dtype="F4")}, 1))
    with pytest.raises(UnsupportedType, match="'F4'"):
        SafetensorsFolder.open(tmp_path)


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "C:model.safetensors",
        "..",
        "",
        ".safetensors",
        "model.bin",
        "model\0.safetensors",
        "m" * 300 + ".safetensors",
        "\ud800.safetensors",
        7,
        None,
        ["model.safetensors"],
        {},
    ],
    ids=repr,
)
def test_an_index_names_only_files_of_its_folder(shard: Any, sharded: Path) -> None:
    index = {"weight_map": {"embed": shard}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadHeader, match="not a file of its folder"):
        SafetensorsFolder.open(sharded)


def damage_index(change: Callable[[dict[str, Any]], Any], folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_an_index_that_does_not_match_its_shards_is_refused(sharded: Path) -> None:
    damage_index(lambda index: index["weight_map"].update(other="model-00001-of-00002.safetensors"), sharded)
    with pytest.raises(FormatError, match="'other' is not in model-00001"):
        SafetensorsFolder.open(sharded)
    damage_index(lambda index: index["weight_map"].update(other="model-00003-of-00002.safetensors"), sharded)
    with pytest.raises(FormatError, match=r"model-00003-of-00002\.safetensors is missing"):
        SafetensorsFolder.open(sharded)
    damage_index(lambda index: index.update(weight_map=[]), sharded)
    with pytest.raises(BadHeader, match="no weight_map"):
        SafetensorsFolder.open(sharded)
