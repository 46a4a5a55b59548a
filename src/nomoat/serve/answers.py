"""The bridge from the service's thread to the event loop: pieces of one request's answers, as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse

from nomoat.core.errors import Interrupted
from nomoat.engine.request import Piece, Request
from nomoat.engine.service import Service, Ticket
from nomoat.serve.events import SSE_TYPE, STREAM_HEADERS

T = TypeVar("T")


class ClientLeft(Interrupted):
    """Nobody is there to read the answer."""


class Answers:
    """The answers to one HTTP request, ``n`` or more of them. Close it, and what is not finished is cancelled."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._tickets: list[Ticket] = []
        self._open: set[int] = set()

    def ask(self, *requests: Request) -> None:
        """Hand the requests to the engine. When it refuses one, none of them runs."""
        try:
            for request in requests:
                number = len(self._tickets)
                self._tickets.append(self._service.submit(request, self._receiver(number)))
                self._open.add(number)
        except Exception:
            self.close()
            raise

    def _receiver(self, number: int):  # type: ignore[no-untyped-def]
        def receive(piece: Piece) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits for this piece
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, (number, piece))

        return receive

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece]]:
        """Pieces with the number of their answer. Raises what ended an answer by error."""
        while self._open:
            number, piece = await self._pieces.get()
            if piece.error is not None:
                raise piece.error
            if piece.finish_reason is not None:
                self._open.discard(number)
            yield number, piece

    def close(self) -> None:
        """Cancel what still runs."""
        for number in self._open:
            self._service.cancel(self._tickets[number])
        self._open.clear()


async def answered(
    http: HttpRequest,
    service: Service,
    requests: Sequence[Request],
    stream: Callable[[Answers], AsyncIterator[bytes]] | None,
    whole: Callable[[Answers], Awaitable[dict[str, Any]]],
    *,
    media_type: str = SSE_TYPE,
) -> Response:
    """The reply to a request: as it is written where there is a ``stream``, which closes the answers; else whole.

    Raises what the engine refuses a request with, before anything is sent.
    """
    answers = Answers(service)
    answers.ask(*requests)
    if stream is not None:
        return StreamingResponse(stream(answers), media_type=media_type, headers=STREAM_HEADERS)
    try:
        return JSONResponse(await while_connected(http, whole(answers)))
    finally:
        answers.close()


async def while_connected(http: HttpRequest, work: Awaitable[T]) -> T:
    """The result of ``work``. Raises ``ClientLeft``, and cancels the work, when the client goes away first."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(http))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft("the client left")
        return task.result()
    finally:
        for one in (task, leaving):
            one.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _left(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
