"""Open an arena for browsers: the models, the application, and the links of its voters."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from nomoat.judge.arena import Arena
from nomoat.judge.bout import Contestants
from nomoat.serve import arena, jobs, page
from nomoat.serve.app import guarded
from nomoat.serve.arena_options import ArenaOptions, Voters
from nomoat.serve.options import LOCAL_HOSTS
from nomoat.serve.room import Room
from nomoat.serve.run import server_of, url_of


def create_arena(room: Room) -> FastAPI:
    """The ASGI application of one arena. It serves no model by name: who could ask one would know it again."""
    app = guarded(room.door)
    app.include_router(arena.routes(room))
    app.include_router(jobs.routes(room.jobs))
    app.include_router(page.routes("arena", "jobs"))
    return app


@contextlib.contextmanager
def opened_arena(
    place: Arena, contestants: Contestants, options: ArenaOptions, voters: Voters
) -> Iterator[uvicorn.Server]:
    """The server of an arena; the models' engines end with the block."""
    room = Room(place, contestants, options, voters)

    def end() -> None:
        room.jobs.stop()
        contestants.close()  # ends what a job may be waiting for

    try:
        yield server_of(create_arena(room), end)
    finally:
        end()
        room.jobs.close()


def links(listener: socket.socket, options: ArenaOptions, voters: Voters) -> dict[str, str]:
    """Where each voter goes, by name."""
    url = url_of(listener)
    if options.host not in LOCAL_HOSTS:
        url = url.replace("0.0.0.0", own_address()).replace("[::]", own_address())
    if not voters.names:
        return {voters.alone: f"{url}/"}
    return {name: f"{url}/join/{key}" for key, name in voters.names.items()}


def own_address() -> str:
    """This machine's address on its network, or its name. Nothing is sent: the route is looked up only."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address kept for documentation (RFC 5737)
        return str(probe.getsockname()[0])
    return socket.gethostname()
