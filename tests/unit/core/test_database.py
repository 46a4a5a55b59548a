"""The home's database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nomoat.core.database import DATABASE_FILE, MIGRATIONS, database
from nomoat.core.errors import StorageError
from nomoat.core.store import Store

VOTE = (
    "insert into vote (at, arena, voter, prompt, model_a, model_b, answer_a, answer_b, winner, left_side)"
    " values ('now', 'x', 'me', '[]', 'a', 'b', '', '', 'model_a', 'model_a')"
)


def test_a_new_database_is_brought_up_to_date_and_opens_again() -> None:
    for _ in range(2):
        with database(Store()) as connection:
            assert connection.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS)


def test_a_block_that_fails_leaves_nothing_behind() -> None:
    with pytest.raises(RuntimeError), database(Store()) as connection:
        connection.execute(VOTE)
        raise RuntimeError
    with database(Store()) as connection:
        assert connection.execute("select count(*) from vote").fetchone()[0] == 0


def test_a_database_of_a_newer_version_is_refused() -> None:
    with database(Store()) as connection:
        connection.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StorageError, match="newer nomoat"), database(Store()):
        pass


def test_who_only_reads_finds_an_empty_database_and_leaves_none() -> None:
    with database(Store(), reading=True) as connection:
        assert connection.execute("select count(*) from vote").fetchone()[0] == 0
    assert not Store().home.exists()


def test_a_database_that_cannot_be_written_names_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with database(Store()):
        pass
    connect = sqlite3.connect

    def read_only(path: Path, timeout: float) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", timeout=timeout, uri=True)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with database(Store(), reading=True) as connection:
        assert connection.execute("select count(*) from vote").fetchone()[0] == 0
    with pytest.raises(StorageError, match="readonly") as raised, database(Store()) as connection:
        connection.execute(VOTE)
    assert "NOMOAT_HOME" in raised.value.hint


def test_a_file_that_is_no_database_is_refused() -> None:
    store = Store()
    store.home.mkdir(parents=True, exist_ok=True)
    (store.home / DATABASE_FILE).write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(StorageError, match="not a database"), database(store):
        pass


@pytest.mark.parametrize("change", ["update vote set winner = 'tie'", "delete from vote"])
def test_votes_are_neither_changed_nor_deleted(change: str) -> None:
    with database(Store()) as connection:
        connection.execute(VOTE)
    with pytest.raises(StorageError, match="a vote is not"), database(Store()) as connection:
        connection.execute(change)
    path = Store().home / DATABASE_FILE
    assert sqlite3.connect(path).execute("select winner from vote").fetchall() == [("model_a",)]
