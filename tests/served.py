"""A live server on a thread of this process, and adapters for its store."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import torch
import uvicorn

from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.engine.options import ServiceOptions
from nomoat.engine.sampling import Sampling
from nomoat.judge.arena import Arena
from nomoat.judge.bout import Contestants
from nomoat.judge.topics import Topic
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base
from nomoat.serve.arena_options import ArenaOptions, voters_of
from nomoat.serve.arena_run import links, opened_arena
from nomoat.serve.desk import Desk
from nomoat.serve.options import ServeOptions
from nomoat.serve.run import listening, opened, server_for, url_of


@dataclasses.dataclass(frozen=True)
class Live:
    """A running server: its address, its parts, its store, and a plain HTTP client."""

    url: str
    desk: Desk
    store: Store
    http: httpx.Client

    def post(self, path: str, **body: object) -> httpx.Response:
        return self.http.post(path, json=body)


def add_adapter(store: Store, base: Base, name: str, seed: int) -> Path:
    """An adapter in the store that changes what the base says."""
    adapter = base.new_adapter(AdapterConfig(rank=4, alpha=16), seed=seed, name=name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for delta in adapter.deltas.values():
            delta.lora_B.normal_(std=0.3, generator=generator)
    with store.writing("adapters", name) as folder:
        save_adapter(adapter, folder)
        write_lineage(folder, Lineage("adapters", name, parents=(Parent("bases", base.name, ""),)))
    return store.path("adapters", name)


def serving(home: Path, options: ServeOptions, engine: ServiceOptions, spec: str = "tiny") -> Iterator[Live]:
    """Serve ``spec`` of the store in ``home`` until the generator is closed."""
    store = Store(home)
    with (
        opened(store, spec, options, engine) as desk,
        listening(options.host, options.port) as listener,
        running(server_for(desk), listener),
        httpx.Client(base_url=url_of(listener), timeout=30) as http,
    ):
        yield Live(url_of(listener), desk, store, http)


@contextlib.contextmanager
def running(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    """A server on a thread of its own."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@dataclasses.dataclass(frozen=True)
class LiveArena:
    """A running arena: its address, its store, its matches as only it knows them, and each voter's link."""

    url: str
    store: Store
    arena: Arena
    links: dict[str, str]

    def sides(self, key: str) -> tuple[str, str]:
        """Who stands left and right in an open match."""
        match = self.arena._open[key]
        return match.left, match.right


@contextlib.contextmanager
def serving_arena(
    store: Store, models: Sequence[str], questions: Sequence[Topic], options: ArenaOptions, sampling: Sampling
) -> Iterator[LiveArena]:
    """A blind arena between models of the store."""
    place = Arena(store, "mine", models, questions, seed=7)
    voters = voters_of(options, "me")
    with (
        listening(options.host, options.port) as listener,
        opened_arena(place, Contestants(store, models, sampling), options, voters) as server,
        running(server, listener),
    ):
        yield LiveArena(url_of(listener), store, place, links(listener, options, voters))
