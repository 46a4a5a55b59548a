"""Every test gets its own empty NOMOAT_HOME, fixed seeds and threads, and a network that is closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("NOMOAT_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home


@pytest.fixture(autouse=True)
def closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real_connect = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        loopback = isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1", "localhost")
        if self.family != getattr(socket, "AF_UNIX", None) and not loopback:
            raise AssertionError(f"a test tried to reach {address}")
        real_connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def threads() -> Iterator[None]:
    """The test may set the number of torch's threads."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
