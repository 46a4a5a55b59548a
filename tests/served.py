"""A live server on a thread of this process, and adapters for its store."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import torch

from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.engine.service import ServiceOptions
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import Base
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
    with opened(store, spec, options, engine) as desk, listening(options) as listener:
        server = server_for(desk)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=url_of(listener), timeout=30) as http:
                yield Live(url_of(listener), desk, store, http)
        finally:
            server.should_exit = True
            thread.join()
