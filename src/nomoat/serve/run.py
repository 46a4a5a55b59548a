"""Open a base for serving, listen, and stop well."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from nomoat.core.errors import UsageError
from nomoat.core.store import Store
from nomoat.engine.names import Part, Worn, open_stack, whole_name
from nomoat.engine.options import ServiceOptions
from nomoat.engine.rounding import can_round, rounding
from nomoat.engine.service import Service
from nomoat.judge.forgetting import general_text
from nomoat.model.load import Base
from nomoat.model.template import default_template
from nomoat.serve.app import create_app
from nomoat.serve.desk import Desk
from nomoat.serve.grammar import Grammars
from nomoat.serve.metrics import Metrics
from nomoat.serve.options import ServeOptions
from nomoat.serve.shelf import Shelf

GRACE_S = 5  # what answers on their way get to end in, once the server is told to stop
_LAST_S = 25  # and then what ``end`` gets, before whatever is left is cut off
_TICK_S = 0.1
_ROUNDED_TEXTS = 4


@contextlib.contextmanager
def opened(
    store: Store, spec: str, options: ServeOptions, engine: ServiceOptions, say: Callable[[str], None] = lambda _: None
) -> Iterator[Desk]:
    """A base (and what ``spec`` wears of adapters, for requests that name no model), ready to answer.

    Raises as ``open_stack``, and ``UsageError`` where prompts shall be rounded and that changes too much; the engine's
    thread ends with the block.
    """
    base, worn, default = _base_and_default(store, spec)
    if engine.round_prompts:
        say(_rounding(base, worn))
    service = Service(base, engine)
    try:
        shelf = Shelf(store, base, options, default=default, on_unload=service.forget)
        yield Desk(
            service=service,
            shelf=shelf,
            grammars=Grammars(base.tokenizer, base.decoder.config.vocab_size),
            metrics=Metrics(service),
            options=options,
            context=service.context,
        )
    finally:
        service.close()


def _rounding(base: Base, worn: Worn) -> str:
    """What rounded prompts change, on general text. Raises ``UsageError`` where it is too much."""
    if not can_round(base):
        return f"prompts are read exactly: this processor is no quicker with rounded ones on {base.name}"
    found = rounding(base, general_text()[:_ROUNDED_TEXTS], worn)
    if not found.passes:
        raise UsageError(f"{base.name} does not bear rounded prompts: {found}", hint="leave --round-prompts out")
    return f"prompts are rounded: {found}"


def _base_and_default(store: Store, spec: str) -> tuple[Base, Worn, tuple[Part, ...]]:
    base, worn = open_stack(store, spec)
    if base.template.kind == "adapter":  # each request's own stack says which template it speaks
        base = dataclasses.replace(base, template=default_template(base.tokenizer))
    return base, worn, whole_name(store, spec).adapters


def listening(host: str, port: int) -> socket.socket:
    """A socket on the address and port. Raises ``UsageError`` where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:  # create_server says the address again in its own words
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        raise UsageError(
            f"cannot listen on {host}:{port}: {why.lower()}",
            hint="--port 0 takes a free one",
        ) from error


def server_for(desk: Desk) -> uvicorn.Server:
    """The HTTP server of a desk."""
    return server_of(create_app(desk), desk.service.close)


class _Server(uvicorn.Server):
    """One that ends what outlasts the grace by ``end``, so that every client is told why its answer stops.

    The first Ctrl-C lets answers on their way end, the second ends them at once.
    """

    def __init__(self, config: uvicorn.Config, end: Callable[[], None]) -> None:
        super().__init__(config)
        self._end, self._hurried = end, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and not self._hurried:
            self._hurried = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end_in_time())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_in_time(self) -> None:
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until and not self._hurried:
            await asyncio.sleep(_TICK_S)
        await asyncio.to_thread(self._end)


def server_of(app: FastAPI, end: Callable[[], None]) -> uvicorn.Server:
    """The HTTP server. ``run(sockets=[...])`` serves until Ctrl-C; ``should_exit`` stops it from another thread.

    ``end`` makes work that still goes on say an error and stop; it may take the time of a step.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S + _LAST_S,
    )
    return _Server(config, end)


def url_of(listener: socket.socket) -> str:
    """Where clients reach the server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
