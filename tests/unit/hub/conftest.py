"""A loopback hub that the pull under test believes in, and a collector of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import FakeHub
from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store
from nomoat.hub.pull import pull
from nomoat.hub.sources import PullOptions


@pytest.fixture
def store(own_home: Path) -> Store:
    return Store(own_home)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("nomoat.hub.download.time.sleep", lambda seconds: None)
        yield server


class Pulled:
    """The records of one pull."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        last = records[-1]
        assert isinstance(last, Done)
        self.result: dict[str, Any] = last.result

    @property
    def notes(self) -> str:
        return "\n".join(record.text for record in self.records if isinstance(record, Note))


@pytest.fixture
def do_pull(store: Store) -> Callable[..., Pulled]:
    def run(spec: str, **options: Any) -> Pulled:
        return Pulled(list(pull(spec, PullOptions(**options), store)))

    return run
