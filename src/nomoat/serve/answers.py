"""The bridge from the service's thread to the event loop: pieces of one request's answers, as they come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse

from nomoat.core.errors import NomoatError
from nomoat.engine.request import Piece, Request
from nomoat.engine.service import Service, Ticket
from nomoat.serve.desk import Desk
from nomoat.serve.events import OPENAI, Wire
from nomoat.serve.stream import Streamed, while_connected


class Answers:
    """The answers to one HTTP request, ``n`` or more of them. Close it, and what is not finished is cancelled.

    ``first_token_s`` is told how long the first piece took.
    """

    def __init__(self, service: Service, first_token_s: Callable[[float], None] | None = None) -> None:
        self._service, self._first_token_s = service, first_token_s
        self._asked_at = time.perf_counter()
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
            if self._first_token_s is not None:
                self._first_token_s(time.perf_counter() - self._asked_at)
                self._first_token_s = None
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
    desk: Desk,
    requests: Sequence[Request],
    stream: Callable[[Answers], AsyncIterator[bytes]] | None,
    whole: Callable[[Answers], Awaitable[dict[str, Any]]],
    *,
    wire: Wire = OPENAI,
) -> Response:
    """The reply to a request: as it is written where there is a ``stream``, else whole.

    Raises what the engine refuses a request with, before anything is sent.
    """
    answers = Answers(desk.service, desk.metrics.first_token_s.observe)
    answers.ask(*requests)
    if stream is not None:
        return Streamed(_sent(answers, stream(answers), wire), wire.media_type)
    try:
        return JSONResponse(await while_connected(http.receive, whole(answers)))
    finally:
        answers.close()


async def _sent(answers: Answers, chunks: AsyncIterator[bytes], wire: Wire) -> AsyncGenerator[bytes, None]:
    """A stream to its end, or to the client's; an error after the first byte is sent in it."""
    try:
        async for chunk in chunks:
            yield chunk
    except NomoatError as error:
        yield wire.failed(error)
    finally:
        answers.close()
    if wire.end:
        yield wire.end
