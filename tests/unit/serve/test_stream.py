"""A stream ends with its client: nothing is written to a socket that nobody reads."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import AsyncGenerator

import pytest

from nomoat.serve.app import guarded
from nomoat.serve.events import SSE_TYPE
from nomoat.serve.guard import Door
from nomoat.serve.run import listening, server_of
from nomoat.serve.stream import Streamed
from served import running


def test_a_stream_whose_chunks_are_all_ready_ends_when_its_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    left, over = threading.Event(), threading.Event()
    made = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: first\n\n"
            left.wait(20)  # holds the loop on purpose, as others' work does: it cannot notice that the client leaves
            for number in range(1000):
                made.append(number)
                yield b"data: more\n\n"
        finally:
            over.set()

    app = guarded(Door("127.0.0.1"))
    app.add_api_route("/words", lambda: Streamed(chunks(), SSE_TYPE))
    with (
        listening("127.0.0.1", 0) as listener,
        running(server_of(app, lambda: None), listener),
        caplog.at_level(logging.WARNING),
    ):
        with socket.create_connection(listener.getsockname(), timeout=20) as client:
            client.sendall(b"GET /words HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            told = b""
            while b"first" not in told:
                told += client.recv(4096)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
        left.set()
        assert over.wait(20)
    assert len(made) < 10
    assert [record.getMessage() for record in caplog.records] == []
