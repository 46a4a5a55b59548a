"""From a word to a model file."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopback import gguf_bytes
from nomoat.core.bases import looks_like_path, resolve_base
from nomoat.core.errors import HashMismatch, NotFound
from nomoat.core.store import Lineage, Store, write_lineage


@pytest.fixture
def store(own_home: Path) -> Store:
    return Store(own_home)


def put_base(store: Store, name: str, kind: str = "bases", **details: object) -> Path:
    with store.writing(kind, name) as folder:  # type: ignore[arg-type]
        if "path" not in details:
            (folder / "model.gguf").write_bytes(gguf_bytes(size=4096))
        write_lineage(folder, Lineage(kind=kind, name=name, details=dict(details)))
    return store.path(kind, name)  # type: ignore[arg-type]


def test_a_name_in_the_store_means_its_gguf_file(store: Store) -> None:
    assert resolve_base(store, "tiny" if put_base(store, "tiny") else "") == store.home / "bases/tiny/model.gguf"


def test_a_merged_model_can_be_a_base_too(store: Store) -> None:
    folder = put_base(store, "merged", kind="models")
    assert resolve_base(store, "merged") == folder / "model.gguf"


def test_a_kind_in_front_says_which_of_two(store: Store) -> None:
    put_base(store, "twin")
    folder = put_base(store, "twin", kind="models")
    assert resolve_base(store, "models/twin") == folder / "model.gguf"
    assert resolve_base(store, "twin") == store.home / "bases/twin/model.gguf"


def test_an_alias_of_a_pulled_base_means_that_base(store: Store) -> None:
    folder = put_base(store, "smollm2-135m-instruct", aliases=["smollm2-135m"])
    assert resolve_base(store, "smollm2-135m") == folder / "model.gguf"


def test_a_path_to_a_gguf_file_means_itself_absolutely(store: Store, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf_bytes(size=4096))
    monkeypatch.chdir(tmp_path)
    assert resolve_base(store, "x.gguf") == tmp_path / "x.gguf"


def test_a_name_in_the_store_wins_over_a_file_of_that_name(store: Store, tmp_path: Path, monkeypatch) -> None:
    folder = put_base(store, "tiny")
    (tmp_path / "tiny").write_bytes(gguf_bytes(size=4096))
    monkeypatch.chdir(tmp_path)
    assert resolve_base(store, "tiny") == folder / "model.gguf"
    assert resolve_base(store, "./tiny") == tmp_path / "tiny"


def test_a_folder_with_safetensors_means_itself(store: Store, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert resolve_base(store, str(tmp_path)) == tmp_path


@pytest.mark.parametrize("spec", ["./gone.gguf", "gone.gguf", "some/folder"])
def test_a_path_that_is_not_there_is_not_found(store: Store, spec: str) -> None:
    with pytest.raises(NotFound, match="no such file"):
        resolve_base(store, spec)


def test_a_file_that_is_no_model_is_named_as_such(store: Store, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NotFound, match="not a GGUF file"):
        resolve_base(store, str(tmp_path / "notes.txt"))


def test_a_folder_that_is_no_model_is_told_what_it_lacks(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"it has no config\.json"):
        resolve_base(store, str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(NotFound, match=r"it has no \*\.safetensors; pytorch_model\.bin may hold code and is not read"):
        resolve_base(store, str(tmp_path))


def test_an_unknown_name_is_answered_with_near_ones_and_pull(store: Store) -> None:
    put_base(store, "smollm2-135m-instruct")
    with pytest.raises(NotFound, match="smollm2-135m-instruct") as caught:
        resolve_base(store, "smollm2-135-instruct")
    assert "nomoat pull smollm2-135-instruct" in caught.value.hint


def test_a_link_is_followed_and_its_loss_or_change_is_said(store: Store, tmp_path: Path) -> None:
    model = tmp_path / "x.gguf"
    model.write_bytes(gguf_bytes(size=4096))
    put_base(store, "linked", path=str(model), size_bytes=model.stat().st_size)
    assert resolve_base(store, "linked") == model
    model.write_bytes(model.read_bytes() + b"more")
    with pytest.raises(HashMismatch, match="changed since"):
        resolve_base(store, "linked")
    model.unlink()
    with pytest.raises(NotFound, match="gone") as caught:
        resolve_base(store, "linked")
    assert "--replace" in caught.value.hint


def test_an_empty_base_folder_says_how_to_mend_it(store: Store) -> None:
    (store.home / "bases" / "hollow").mkdir(parents=True)
    with pytest.raises(NotFound, match="holds no model"):
        resolve_base(store, "hollow")


@pytest.mark.parametrize(
    ("word", "is_path"),
    [("smollm2-135m", False), ("a.GGUF", True), ("./a", True), ("~/a", True), ("a/b", True), ("a\\b", True)],
)
def test_only_a_path_looks_like_one(word: str, is_path: bool) -> None:
    assert looks_like_path(word) is is_path
