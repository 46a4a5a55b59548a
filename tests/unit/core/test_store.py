"""The store: whole artefacts or none, names that stay inside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nomoat.core.errors import FormatError, NotFound, StorageError, UsageError
from nomoat.core.store import Lineage, Parent, Store, read_lineage, write_lineage


@pytest.fixture
def store(own_home: Path) -> Store:
    return Store(own_home)


def test_the_home_comes_from_the_environment(own_home: Path) -> None:
    assert Store().home == own_home


def test_a_written_artefact_is_found_and_listed(store: Store) -> None:
    with store.writing("data", "notes") as folder:
        (folder / "train.jsonl").write_text("{}")
    assert store.names("data") == ["notes"]
    assert (store.find("data", "notes") / "train.jsonl").read_text() == "{}"


def test_an_error_while_writing_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="no"), store.writing("data", "notes") as folder:
        (folder / "half").write_text("half")
        raise ValueError("no")
    assert store.names("data") == []
    assert list((store.home / "data").iterdir()) == []


def test_a_full_disk_while_writing_is_a_storage_error_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(StorageError) as caught, store.writing("data", "notes"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "free some space" in caught.value.hint
    assert list((store.home / "data").iterdir()) == []


def test_replacing_swaps_whole_folders(store: Store) -> None:
    for text in ("old", "new"):
        with store.writing("data", "notes", replace=True) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in store.find("data", "notes").iterdir()] == ["new"]
    assert [path.name for path in (store.home / "data").iterdir()] == ["notes"]


def test_a_failed_replacement_keeps_the_old(store: Store) -> None:
    with store.writing("data", "notes") as folder:
        (folder / "old").write_text("old")
    with pytest.raises(ValueError, match="no"), store.writing("data", "notes", replace=True):
        raise ValueError("no")
    assert (store.find("data", "notes") / "old").exists()


def test_a_taken_name_needs_replace(store: Store) -> None:
    with store.writing("data", "notes"):
        pass
    with pytest.raises(UsageError, match="exists already"), store.writing("data", "notes"):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-rf", "a\n", "x" * 101, "é", "a."])
def test_names_that_could_leave_the_store_or_confuse_a_shell_are_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        store.path("data", name)


@pytest.mark.parametrize("word", ["notess", "folder/notess.jsonl"])
def test_a_word_that_is_neither_a_file_nor_a_data_set_is_said_to_be_neither(store: Store, word: str) -> None:
    with store.writing("data", "notes"):
        pass
    assert store.find_data("notes") == store.path("data", "notes")
    with pytest.raises(NotFound, match=f"{word}: neither a file nor a data set"):
        store.find_data(word)


def test_a_missing_artefact_is_answered_with_near_names_and_the_command(store: Store) -> None:
    with store.writing("data", "tickets"):
        pass
    with pytest.raises(NotFound, match="did you mean tickets") as caught:
        store.find("data", "ticket")
    assert caught.value.hint == "nomoat data add FILE --name ticket"


def test_removing_deletes_the_artefact_only(store: Store) -> None:
    for name in ("one", "two"):
        with store.writing("data", name):
            pass
    store.remove("data", "one")
    assert store.names("data") == ["two"]
    with pytest.raises(NotFound):
        store.remove("data", "one")


def test_lineage_survives_the_disk(tmp_path: Path) -> None:
    lineage = Lineage("adapters", "scribe", "MIT", (Parent("bases", "tiny", "aa"),), {"rank": 16}, seed=7)
    write_lineage(tmp_path, lineage)
    assert read_lineage(tmp_path) == lineage


def test_a_folder_without_a_record_has_no_lineage(tmp_path: Path) -> None:
    assert read_lineage(tmp_path) is None


def test_a_record_of_a_later_version_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "nomoat.json").write_text('{"kind": "data", "name": "x", "from_the_future": 1}')
    assert read_lineage(tmp_path) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kind": 1, "parents": 3}', '{"name": "x"}', "\xff"])
def test_a_damaged_record_raises_our_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "nomoat.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError):
        read_lineage(tmp_path)
