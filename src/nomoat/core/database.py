"""The home's database, ``nomoat.db``: SQLite, brought up to date by numbered migrations when it is opened.

Migrations are only ever appended. A database that a newer nomoat wrote is refused rather than guessed at.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nomoat.core.errors import StorageError
from nomoat.core.store import Store

DATABASE_FILE: Final = "nomoat.db"
_PATIENCE_S: Final = 10.0
_MEND: Final = "free some space, or point NOMOAT_HOME at a folder that you may write"

MIGRATIONS: Final = (
    """
    create table vote (
        id integer primary key,
        at text not null,
        arena text not null,
        voter text not null,
        prompt text not null,
        model_a text not null,
        model_b text not null,
        answer_a text not null,
        answer_b text not null,
        winner text not null check (winner in ('model_a', 'model_b', 'tie', 'both_bad')),
        left_side text not null check (left_side in ('model_a', 'model_b')),
        note text not null default '',
        replaces integer unique references vote (id)
    );
    create index vote_arena on vote (arena);
    create trigger vote_stays before update on vote begin select raise (abort, 'a vote is not changed'); end;
    create trigger vote_is_kept before delete on vote begin select raise (abort, 'a vote is not deleted'); end;
    """,
    """
    alter table vote add column category text not null default '';
    alter table vote add column tokens_a integer not null default 0;
    alter table vote add column tokens_b integer not null default 0;
    alter table vote add column seconds_a real not null default 0;
    alter table vote add column seconds_b real not null default 0;
    """,
    """
    alter table vote add column later text not null default '[]';
    alter table vote add column later_a text not null default '[]';
    alter table vote add column later_b text not null default '[]';
    """,
)


@contextlib.contextmanager
def database(store: Store, *, reading: bool = False) -> Iterator[sqlite3.Connection]:
    """The open database; what the block does is one transaction. Raises ``StorageError``.

    For a block that is only ``reading``, a home without a database has an empty one, and nothing is written there.
    """
    path = store.home / DATABASE_FILE
    try:
        empty = reading and not path.exists()
        if not empty:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(":memory:" if empty else path, timeout=_PATIENCE_S)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{path} cannot be opened: {error}", hint=_MEND) from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("pragma foreign_keys = on")
        _migrate(connection, path)
        with connection:
            yield connection
    except sqlite3.OperationalError as error:  # a full or read-only disk, or one that another process holds
        raise StorageError(f"{path}: {error}", hint=_MEND) from error
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}") from error
    finally:
        connection.close()


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StorageError(
            f"{path} was written by a newer nomoat (version {version}, known are {len(MIGRATIONS)})",
            hint="pip install --upgrade nomoat",
        )
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"begin immediate; {MIGRATIONS[number]} pragma user_version = {number + 1}; commit;")
