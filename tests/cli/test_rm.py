"""``nomoat rm``: asks, refuses what others stand on, deletes only inside the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopback import gguf_bytes
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from terminal import nomoat


@pytest.fixture
def store(own_home: Path, tmp_path: Path) -> Store:
    store = Store(own_home)
    (tmp_path / "x.gguf").write_bytes(gguf_bytes())
    nomoat("pull", str(tmp_path / "x.gguf"), "--name", "tiny")
    with store.writing("adapters", "scribe") as folder:
        write_lineage(folder, Lineage("adapters", "scribe", parents=(Parent("bases", "tiny", ""),)))
    return store


def test_with_yes_it_is_gone(store: Store) -> None:
    ran = nomoat("rm", "scribe", "--yes")
    assert (ran.code, ran.out) == (0, "") and "removed adapters/scribe" in ran.err
    assert store.names("adapters") == []


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("yes\n", []), ("n\n", ["scribe"]), ("", ["scribe"])])
def test_a_person_is_asked(store: Store, answer: str, left: list[str]) -> None:
    ran = nomoat("rm", "scribe", stdin=answer, person=True)
    assert "delete adapters/scribe" in ran.err
    assert store.names("adapters") == left
    assert ran.code == (1 if left else 0)


def test_a_script_must_say_yes(store: Store) -> None:
    ran = nomoat("rm", "scribe")
    assert ran.code == 2 and "--yes" in ran.err
    assert store.names("adapters") == ["scribe"]


def test_what_others_were_made_from_is_kept_unless_forced(store: Store) -> None:
    ran = nomoat("rm", "tiny", "--yes")
    assert ran.code == 2 and "nomoat rm adapters/scribe first" in ran.err
    assert store.names("bases") == ["tiny"]
    assert nomoat("rm", "tiny", "--yes", "--force").code == 0
    assert store.names("bases") == []


def test_a_linked_file_outside_the_store_is_not_touched(store: Store, tmp_path: Path) -> None:
    ran = nomoat("rm", "tiny", "--yes", "--force")
    assert "stays where it is" in ran.err
    assert (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("name", ["..", "../home", "bases/../..", "/tmp", "~", "bases/", ""])
def test_no_name_reaches_outside_the_store(store: Store, name: str) -> None:
    before = sorted(store.home.rglob("*"))
    assert nomoat("rm", name, "--yes", "--force").code in (2, 3)
    assert sorted(store.home.rglob("*")) == before


def test_json_says_what_was_removed(store: Store) -> None:
    (record,) = nomoat("rm", "scribe", "--yes", "--json").records
    assert record["artefact"] == "adapters/scribe" and record["size_bytes"] > 0
