"""The engine on a thread of its own: requests come from anywhere, at any time, and run together.

One thread owns the batch. Others leave requests in a queue and are called back with pieces, on the service's thread:
a callback hands over and returns.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from torch import Tensor

from nomoat.core.errors import Busy, NomoatError, ResourceError, UsageError
from nomoat.engine.batch import Batch, BatchOptions
from nomoat.engine.embed import EmbedJob
from nomoat.engine.generate import context_of
from nomoat.engine.options import ServiceOptions
from nomoat.engine.request import NO_TOKEN, Piece, Request, fitted
from nomoat.model.delta import EMPTY, Stack, Wearable
from nomoat.model.load import Base

OnPiece = Callable[[Piece], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """A request that was taken. ``prompt_tokens`` are read; ``truncated_tokens`` of the prompt were left out."""

    number: int
    prompt_tokens: int
    truncated_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceStats:
    """Counts since the start, except ``queued``, ``running`` and ``cache_bytes``, which are of now.

    ``prefix_hits``: prompt tokens that did not have to be read. ``failed``: what stopped the service, if anything did.
    """

    queued: int
    running: int
    requests: int
    generated_tokens: int
    prompt_tokens: int
    prefix_hits: int
    cache_bytes: int
    failed: str = ""


@dataclasses.dataclass(slots=True)
class _Client:
    request: Request
    on_piece: OnPiece
    prompt_tokens: int
    began: bool = False


class Service:
    """Answers requests on one base until it is closed. Every method may be called from any thread."""

    def __init__(self, base: Base, options: ServiceOptions | None = None) -> None:
        self.base, self.options = base, options or ServiceOptions()
        own = self.options
        if own.max_batch < 1 or own.queue < 1 or own.cache_mb < 0:
            raise UsageError("a service runs at least 1 request, queues at least 1, and has 0 MiB of cache or more")
        self.context = context_of(base, own.max_context)
        self._batch_options = BatchOptions(
            context=self.context,
            max_batch=own.max_batch,
            cache_bytes=own.cache_mb << 20,
            reuse=own.prefix_cache,
            int8_cache=own.kv_int8,
            round_prompts=own.round_prompts,
            speculate=own.speculate,
        )
        self._batch = Batch(base, self._batch_options)
        self._changed = threading.Condition()
        self._inbox: deque[int] = deque()
        self._given_up: deque[int] = deque()
        self._forgotten: deque[Wearable] = deque()
        self._embeds: deque[tuple[EmbedJob, Future[Tensor]]] = deque()
        self._clients: dict[int, _Client] = {}
        self._next, self._closing = 0, False
        self._stats = ServiceStats(0, 0, 0, 0, 0, 0, 0)
        self._thread = threading.Thread(target=self._run, name="nomoat-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, on_piece: OnPiece) -> Ticket:
        """Queue a request; its pieces come to ``on_piece``, the last one with a finish reason.

        Raises ``Busy`` when the queue is full, ``UsageError`` when the prompt does not fit.
        """
        prompt, dropped = fitted(request, self.context)
        with self._changed:
            self._check_open()
            if self._stats.queued + len(self._inbox) >= self.options.queue + self._free_rows():
                raise Busy(f"{self.options.queue} requests are waiting already", hint="try again in a moment")
            number, self._next = self._next, self._next + 1
            self._clients[number] = _Client(request, on_piece, len(prompt))
            self._inbox.append(number)
            self._changed.notify_all()
        return Ticket(number, len(prompt), dropped)

    def cancel(self, ticket: Ticket) -> None:
        """Give a request up; no piece comes any more, but for one on its way. Nothing happens if it has ended."""
        with self._changed:
            self._given_up.append(ticket.number)
            self._changed.notify_all()

    def embed(self, tokens: Sequence[Sequence[int]], stack: Stack = EMPTY) -> Tensor:
        """The mean of each text's last hidden states, of length 1. (n, D). Waits for it.

        Raises ``UsageError`` when a text is empty or longer than the context.
        """
        job, future = EmbedJob(self.base, tokens, stack, self.context), Future[Tensor]()
        with self._changed:
            self._check_open()
            self._embeds.append((job, future))
            self._changed.notify_all()
        return future.result()

    def forget(self, adapter: Wearable) -> None:
        """Drop what was read under an adapter that is unloaded."""
        with self._changed:
            self._forgotten.append(adapter)
            self._changed.notify_all()

    def stats(self) -> ServiceStats:
        """How things stand after the last step."""
        with self._changed:
            return dataclasses.replace(self._stats, queued=self._stats.queued + len(self._inbox))

    def close(self) -> None:
        """Stop after the step that runs; requests that are not answered end with an error. Returns when all is over."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check_open(self) -> None:
        if self._closing or self._stats.failed:
            raise ResourceError(f"the service has stopped: {self._stats.failed or 'it was closed'}")

    def _free_rows(self) -> int:
        return max(0, self.options.max_batch - self._stats.running)

    def _run(self) -> None:
        error: NomoatError = ResourceError("the service was closed before the answer was complete")
        try:
            while self._turn():
                pass
        except NomoatError as reason:
            error = reason
        except Exception as reason:  # whatever it is, those who wait must hear of it
            error = ResourceError(f"the engine failed: {type(reason).__name__}: {reason}")
        self._end_all(error)

    def _turn(self) -> bool:
        """Take what has come, run a step, hand out what came of it. False when it is over."""
        with self._changed:
            while not (self._closing or self._has_work()):
                self._changed.wait()
            if self._closing:
                return False
            self._take()
        if not self._batch.idle:
            for piece in self._batch.step():
                self._hand_out(piece)
        self._embed_some()
        self._count()
        return True

    def _has_work(self) -> bool:
        return bool(self._inbox or self._given_up or self._forgotten or self._embeds or not self._batch.idle)

    def _take(self) -> None:
        while self._inbox:
            number = self._inbox.popleft()
            try:
                self._batch.add(number, self._clients[number].request)
            except NomoatError as error:
                self._hand_out(Piece(number, "", NO_TOKEN, 0.0, "error", error=error))
        while self._given_up:
            number = self._given_up.popleft()
            self._batch.cancel(number)
            self._clients.pop(number, None)
        while self._forgotten:
            self._batch.forget(self._forgotten.popleft())

    def _hand_out(self, piece: Piece) -> None:
        client = self._clients.get(piece.index)
        if client is None:
            return
        with self._changed:
            stats, first = self._stats, not client.began
            client.began = True
            self._stats = dataclasses.replace(
                stats,
                generated_tokens=stats.generated_tokens + (piece.token != NO_TOKEN),
                requests=stats.requests + first,
                prompt_tokens=stats.prompt_tokens + first * client.prompt_tokens,
                prefix_hits=stats.prefix_hits + first * piece.cached_tokens,
            )
            if piece.finish_reason is not None:
                del self._clients[piece.index]
        try:
            client.on_piece(piece)
        except Exception:  # a listener that broke has left: its request must not take the others with it
            self._batch.cancel(piece.index)
            with self._changed:
                self._clients.pop(piece.index, None)

    def _embed_some(self) -> None:
        """One forward pass of the oldest embedding job: answers in the batch go on between them."""
        if not self._embeds:
            return
        job, future = self._embeds[0]
        try:
            done = job.step()
        except NomoatError as error:
            future.set_exception(error)
            done = True
        else:
            if done:
                future.set_result(job.vectors())
        if done:
            with self._changed:
                self._embeds.popleft()

    def _count(self) -> None:
        with self._changed:
            self._stats = dataclasses.replace(
                self._stats,
                queued=self._batch.n_waiting,
                running=self._batch.n_running,
                cache_bytes=self._batch.cache_bytes,
            )

    def _end_all(self, error: NomoatError) -> None:
        with self._changed:
            failed = "" if self._closing else error.message
            self._stats = dataclasses.replace(self._stats, queued=0, running=0, cache_bytes=0, failed=failed)
            self._closing = True
            clients, self._clients = dict(self._clients), {}
            embeds, self._embeds = list(self._embeds), deque()
        self._batch = Batch(self.base, self._batch_options)  # lets the cache go
        for number, client in clients.items():
            try:
                client.on_piece(Piece(number, "", NO_TOKEN, 0.0, "error", error=error))
            except Exception:  # it has left
                continue
        for _, future in embeds:
            future.set_exception(error)
