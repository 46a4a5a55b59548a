"""``nomoat ls``: what is here, and where it comes from."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from loopback import gguf_bytes
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from terminal import nomoat


@pytest.fixture
def home(own_home: Path, tmp_path: Path) -> Path:
    store = Store(own_home)
    (tmp_path / "x.gguf").write_bytes(gguf_bytes())
    assert nomoat("pull", str(tmp_path / "x.gguf"), "--name", "tiny", "--copy").code == 0
    base = Parent("bases", "tiny", "ab" * 32)
    with store.writing("adapters", "scribe") as folder:
        write_lineage(folder, Lineage("adapters", "scribe", "Apache-2.0", (base, Parent("data", "lost", ""))))
    return own_home


def test_an_empty_home_says_how_to_start(own_home: Path) -> None:
    ran = nomoat("ls")
    assert (ran.code, ran.out) == (0, "")
    assert "nomoat pull" in ran.err


def test_artefacts_are_listed_with_size_date_and_licence(home: Path) -> None:
    lines = nomoat("ls").out.splitlines()
    assert lines[0].split() == ["kind", "name", "size", "made", "licence"]
    assert re.fullmatch(r"bases +tiny +30\d kB +20\d\d-\d\d-\d\d \d\d:\d\d +Apache-2\.0", lines[1])
    assert lines[2].startswith("adapters")


def test_a_person_gets_the_same_rows_in_a_drawn_table(home: Path) -> None:
    out = nomoat("ls", person=True).out
    assert "scribe" in out and "tiny" in out


def test_one_kind_can_be_listed_by_either_spelling(home: Path) -> None:
    assert nomoat("ls", "--kind", "base").out == nomoat("ls", "--kind", "bases").out
    assert "scribe" not in nomoat("ls", "--kind", "bases").out


def test_an_unknown_kind_is_a_usage_error() -> None:
    assert nomoat("ls", "--kind", "cars").code == 2


def test_json_has_one_record_for_each(home: Path) -> None:
    records = nomoat("ls", "--json").records
    assert [(record["kind"], record["name"]) for record in records] == [("bases", "tiny"), ("adapters", "scribe")]
    assert records[0]["size_bytes"] > 300_000


def test_the_tree_shows_the_whole_descent_and_what_is_missing(home: Path, tmp_path: Path) -> None:
    lines = nomoat("ls", "--tree", "scribe").out.splitlines()
    assert lines[0].startswith("adapters/scribe")
    assert lines[1].startswith("├─ bases/tiny  sha256 abababababab")
    assert lines[2].startswith(f"│  └─ from {tmp_path / 'x.gguf'}")
    assert lines[3].startswith("└─ data/lost") and lines[3].endswith("(no longer here)")


def test_the_tree_as_json_says_what_is_here(home: Path) -> None:
    records = nomoat("ls", "--tree", "scribe", "--json").records
    assert [(record["depth"], record["here"]) for record in records] == [(0, True), (1, True), (2, False), (1, False)]


def test_looking_at_what_is_here_opens_no_socket(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    for argv in (
        ["ls"],
        ["ls", "--tree", "scribe"],
        ["show", "tiny"],
        ["pull"],
        ["doctor", "--no-probe"],
        ["rm", "scribe", "--yes"],
    ):
        assert nomoat(*argv).code == 0
