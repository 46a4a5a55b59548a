"""Pulling what lies on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from loopback import gguf_bytes
from nomoat.core.bases import resolve_base
from nomoat.core.errors import FormatError, HashMismatch, NotFound
from nomoat.core.store import read_lineage


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "My Model.Q4_0.gguf"
    path.write_bytes(gguf_bytes())
    return path


def test_a_local_file_is_linked_by_default_and_its_hash_recorded(do_pull, store, model: Path) -> None:
    pulled = do_pull(str(model))
    assert pulled.result["name"] == "my-model.q4_0"
    assert resolve_base(store, "my-model.q4_0") == model
    assert read_lineage(store.path("bases", "my-model.q4_0")).details["sha256"] == (  # type: ignore[union-attr]
        hashlib.sha256(gguf_bytes()).hexdigest()
    )
    assert sorted(path.name for path in store.path("bases", "my-model.q4_0").iterdir()) == ["nomoat.json"]


def test_copy_puts_the_file_into_the_store_and_leaves_the_original(do_pull, store, model: Path) -> None:
    do_pull(str(model), copy=True, name="mine")
    copied = resolve_base(store, "mine")
    assert copied.is_relative_to(store.home) and copied.read_bytes() == model.read_bytes()
    copied.write_bytes(b"changed")
    assert model.read_bytes() == gguf_bytes()


def test_a_file_under_any_name_is_known_by_its_magic(do_pull, store, tmp_path: Path) -> None:
    blob = tmp_path / "sha256-0011"
    blob.write_bytes(gguf_bytes())
    do_pull(str(blob), name="blob")
    assert resolve_base(store, "blob") == blob


def test_pulling_the_same_path_again_is_no_error(do_pull, model: Path) -> None:
    do_pull(str(model))
    assert "here already" in do_pull(str(model)).notes


def test_a_given_hash_is_checked(do_pull, store, model: Path) -> None:
    with pytest.raises(HashMismatch):
        do_pull(str(model), sha256="00" * 32)
    assert store.names("bases") == []


def test_a_file_that_is_no_model_is_refused(do_pull, store, tmp_path: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    with pytest.raises(FormatError):
        do_pull(str(page))
    assert store.names("bases") == []


def test_a_cut_off_file_is_refused_and_left_where_it_is(do_pull, store, tmp_path: Path) -> None:
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(gguf_bytes()[:5000])
    with pytest.raises(FormatError):
        do_pull(str(torn), copy=True)
    assert torn.exists() and store.names("bases") == []


def test_a_path_that_is_not_there_is_not_found(do_pull) -> None:
    with pytest.raises(NotFound):
        do_pull("./nowhere.gguf")


def test_a_local_folder_is_linked_or_copied_whole(do_pull, store, tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({"model.embed_tokens.weight": np.zeros((8, 4), np.float32)}, folder / "model.safetensors")
    (folder / "run.py").write_text("print('never copied')")
    do_pull(str(folder), name="linked")
    assert resolve_base(store, "linked") == folder
    do_pull(str(folder), name="copied", copy=True)
    copied = resolve_base(store, "copied")
    assert copied == store.path("bases", "copied")
    assert sorted(path.name for path in copied.iterdir()) == ["config.json", "model.safetensors", "nomoat.json"]
