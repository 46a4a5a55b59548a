"""A live server on a tiny model with two adapters, and real clients of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomoat.core.store import Store
from nomoat.engine.options import ServiceOptions
from nomoat.serve.options import ServeOptions
from served import Live, add_adapter, serving
from tiny import tiny_base


@pytest.fixture(scope="session")
def stocked_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the base ``tiny`` and the adapters ``odd`` and ``even``."""
    store = Store(tmp_path_factory.mktemp("served"))
    base = dataclasses.replace(tiny_base(store.path("bases", "tiny"), tie_word_embeddings=False), name="tiny")
    for seed, name in enumerate(("odd", "even"), start=1):
        add_adapter(store, base, name, seed)
    return store.home


@pytest.fixture(scope="session")
def live(stocked_home: Path) -> Iterator[Live]:
    options = ServeOptions(port=0, stacks=("both=odd:0.5+even",))
    yield from serving(stocked_home, options, ServiceOptions(max_batch=4, queue=32, cache_mb=16))
