"""Finding artefacts by name, their ancestors and descendants."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core.artefacts import all_artefacts, descendants, descent, locate, size_bytes
from nomoat.core.errors import FormatError, NotFound, UsageError
from nomoat.core.store import Kind, Lineage, Parent, Store, write_lineage


def put(store: Store, kind: Kind, name: str, *parents: Parent) -> None:
    with store.writing(kind, name, replace=True) as folder:
        (folder / "content").write_bytes(b"12345")
        write_lineage(folder, Lineage(kind=kind, name=name, parents=parents))


@pytest.fixture
def store(own_home: Path) -> Store:
    store = Store(own_home)
    put(store, "bases", "tiny", Parent("source", "hf:acme/tiny@1", "aa" * 32))
    put(store, "data", "notes", Parent("file", "notes.txt", "bb" * 32))
    put(store, "adapters", "scribe", Parent("bases", "tiny", "aa" * 32), Parent("data", "notes", "cc" * 32))
    return store


def test_everything_is_listed_by_kind_and_name(store: Store) -> None:
    assert [each.spec for each in all_artefacts(store)] == ["bases/tiny", "data/notes", "adapters/scribe"]
    assert [each.spec for each in all_artefacts(store, "data")] == ["data/notes"]


def test_a_name_alone_finds_its_kind(store: Store) -> None:
    assert locate(store, "scribe").spec == "adapters/scribe"
    assert locate(store, "adapter/scribe").spec == "adapters/scribe"


def test_a_name_that_two_kinds_share_must_be_said_with_its_kind(store: Store) -> None:
    put(store, "data", "scribe")
    with pytest.raises(UsageError) as caught:
        locate(store, "scribe")
    assert "data/scribe, adapters/scribe" in caught.value.hint
    assert locate(store, "data/scribe").kind == "data"


def test_a_misspelt_name_is_answered_with_near_ones(store: Store) -> None:
    with pytest.raises(NotFound, match="scribe"):
        locate(store, "scrbe")


@pytest.mark.parametrize("spec", ["../bases/tiny", "adapters/../bases", "/etc", "adapters/"])
def test_no_spelling_reaches_outside_the_store(store: Store, spec: str) -> None:
    with pytest.raises((NotFound, UsageError)):
        locate(store, spec)


def test_the_descent_goes_down_to_the_sources(store: Store) -> None:
    lines = [(each.depth, each.kind, each.name) for each in descent(store, locate(store, "scribe"))]
    assert lines == [
        (0, "adapters", "scribe"),
        (1, "bases", "tiny"),
        (2, "source", "hf:acme/tiny@1"),
        (1, "data", "notes"),
        (2, "file", "notes.txt"),
    ]


def test_an_ancestor_that_was_removed_is_still_named(store: Store) -> None:
    store.remove("data", "notes")
    last = list(descent(store, locate(store, "scribe")))[-1]
    assert (last.name, last.artefact) == ("notes", None)


def test_records_that_go_in_a_circle_do_not_hang(store: Store) -> None:
    put(store, "data", "notes", Parent("adapters", "scribe", ""))
    assert [each.name for each in descent(store, locate(store, "scribe"))].count("scribe") == 2


def test_a_descent_with_many_paths_to_one_parent_goes_into_it_once(store: Store) -> None:
    put(store, "adapters", "all-0", Parent("data", "notes", ""))
    for n in range(1, 60):
        put(store, "adapters", f"new-{n}", Parent("adapters", f"all-{n - 1}", ""))
        put(store, "adapters", f"all-{n}", Parent("adapters", f"all-{n - 1}", ""), Parent("adapters", f"new-{n}", ""))
    lines = list(descent(store, locate(store, "all-59")))
    assert len(lines) < 4 * 60
    assert [each.depth for each in lines if each.name == "notes"] == [60]
    assert [each.above for each in lines if each.name == "all-58"] == [False, True]


def test_descendants_are_those_that_name_it_as_parent(store: Store) -> None:
    assert [each.spec for each in descendants(store, locate(store, "tiny"))] == ["adapters/scribe"]
    assert descendants(store, locate(store, "scribe")) == []


def test_the_size_counts_every_file(store: Store) -> None:
    artefact = locate(store, "tiny")
    assert size_bytes(artefact) == 5 + (artefact.path / "nomoat.json").stat().st_size


def test_a_damaged_record_is_named(store: Store) -> None:
    (store.path("data", "notes") / "nomoat.json").write_text("[1]")
    with pytest.raises(FormatError, match=r"notes/nomoat\.json"):
        list(all_artefacts(store))
