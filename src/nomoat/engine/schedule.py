"""Who runs next. Plain numbers in, plain numbers out: no tensors, no model, so it can be tested alone.

A step is one forward pass over segments: a request that is answering adds one token (and guesses, if any), a
request whose prompt is not cached yet adds the next piece of it. Answers always run; prompts share the step's token
budget, each its part, so a long prompt is read in pieces and holds up neither those who wait for their next word nor
the short prompts behind it. Requests begin in the order they came, whatever they wear.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from nomoat.core.errors import ResourceError, UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """New tokens of one request in a step: ``length`` of them after ``start`` cached ones.

    They are all of the prompt or all of the answer. ``samples`` says that the request's next token is drawn. The last
    ``guesses`` tokens of the segment are guesses of what will be drawn.
    """

    request: int
    start: int
    length: int
    samples: bool
    guesses: int = 0


class Room(Protocol):
    """Where the tokens of running requests are kept."""

    def enter(self, request: int, spare: int) -> int | None:
        """Make room for a request's known tokens, leaving ``spare`` pages; how many are cached, or None if full."""
        ...

    def grow(self, request: int, tokens: int) -> bool:
        """Make room for ``tokens`` of a request in all; whether there is any."""
        ...

    def follow(self, request: int, cached: int) -> int | None:
        """How many tokens of one that reads are cached by now; None if another is reading the next ones for it."""
        ...

    def leave(self, request: int) -> None:
        """Give a request's room back."""
        ...


@dataclasses.dataclass(slots=True)
class _Ticket:
    request: int
    prompt: int
    total: int
    cached: int = 0

    @property
    def missing(self) -> int:
        return self.total - self.cached

    @property
    def ahead(self) -> int:
        """Tokens to read that are all of the prompt, or all of what had been answered when it gave way."""
        return (self.prompt if self.cached < self.prompt else self.total) - self.cached


class Scheduler:
    """Plans steps for at most ``slots`` requests at a time, of at most ``step_tokens`` prompt tokens.

    While somebody is answering, prompts get ``shared_tokens`` a step: the others wait that long for their next word.
    Raises ``UsageError`` if one of them is below 1.
    """

    def __init__(self, room: Room, *, slots: int, step_tokens: int, shared_tokens: int = 0) -> None:
        if slots < 1 or step_tokens < 1:
            raise UsageError(f"a batch needs at least 1 row and 1 token, not {slots} and {step_tokens}")
        self._room = room
        self._slots = slots
        self._step_tokens = step_tokens
        self._shared_tokens = shared_tokens or step_tokens
        self._waiting: deque[_Ticket] = deque()
        self._running: dict[int, _Ticket] = {}  # oldest first

    @property
    def idle(self) -> bool:
        """Nobody runs and nobody waits."""
        return not self._running and not self._waiting

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        return len(self._running)

    def add(self, request: int, tokens: int) -> None:
        """Queue a request of ``tokens`` known tokens."""
        if tokens < 1:
            raise UsageError(f"request {request}: there is nothing to run")
        self._waiting.append(_Ticket(request, tokens, tokens))

    def cached(self, request: int) -> int:
        """How many tokens of a running request are read; 0 for one that waits."""
        ticket = self._running.get(request)
        return ticket.cached if ticket is not None else 0

    def answering(self) -> list[int]:
        """The requests that draw a token in the next step without reading a prompt."""
        return [ticket.request for ticket in self._running.values() if ticket.missing == 1]

    def plan(self, guesses: Mapping[int, int] | None = None) -> list[Segment]:
        """The segments of the next step: answers first, then pieces of prompts. Empty when idle.

        ``guesses``: how many guessed tokens go with a request's next one.
        """
        self._admit()
        segments = self._answers(guesses or {})
        reading = self._reading()
        left = self._shared_tokens if segments else self._step_tokens
        pieces: dict[int, Segment] = {}
        for done, ticket in enumerate(sorted(reading, key=lambda ticket: ticket.missing)):
            length = min(ticket.ahead, max(1, left // (len(reading) - done)))
            if left <= 0:
                break
            pieces[ticket.request] = Segment(ticket.request, ticket.cached, length, length == ticket.missing)
            left -= length
        return segments + [pieces[ticket.request] for ticket in reading if ticket.request in pieces]

    def advance(self, segment: Segment, drawn: int) -> None:
        """The segment ran and ``drawn`` tokens came of it: all but the last of them are cached."""
        ticket = self._running[segment.request]
        if segment.samples:
            ticket.total += drawn
            ticket.cached = ticket.total - 1
        else:
            ticket.cached += segment.length

    def finish(self, request: int) -> None:
        """The request is answered or was given up; its room is free for the next."""
        if self._running.pop(request, None) is not None:
            self._room.leave(request)
        else:
            self._waiting = deque(ticket for ticket in self._waiting if ticket.request != request)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            first = self._waiting[0]
            cached = self._room.enter(first.request, len(self._running))
            if cached is None:
                if not self._running:
                    raise ResourceError(f"a request of {first.total:,} tokens does not fit into the cache")
                return
            first.cached = cached
            self._running[first.request] = self._waiting.popleft()

    def _reading(self) -> list[_Ticket]:
        """Those whose prompts are read in this step, and not by another that begins alike."""
        reading = []
        for ticket in self._running.values():
            if ticket.missing > 1 and (cached := self._room.follow(ticket.request, ticket.cached)) is not None:
                ticket.cached = cached
                reading.append(ticket)
        return reading

    def _answers(self, guesses: Mapping[int, int]) -> list[Segment]:
        segments = []
        for request in self.answering():
            if request not in self._running:  # gave way to an older one
                continue
            ticket = self._running[request]
            extra = guesses.get(request, 0)
            if extra and not self._room.grow(request, ticket.total + extra):
                extra = 0
            if self._has_room(ticket):
                segments.append(Segment(request, ticket.cached, 1 + extra, True, extra))
        return segments

    def _has_room(self, ticket: _Ticket) -> bool:
        """Room for what is known of a request, if need be that of younger ones; else it gives way itself."""
        while not self._room.grow(ticket.request, ticket.total):
            if self._give_way() == ticket.request:
                return False
        return True

    def _give_way(self) -> int:
        """Put the youngest request back at the head of the queue; its tokens are kept and read again."""
        request, ticket = self._running.popitem()
        self._room.leave(request)
        ticket.cached = 0
        self._waiting.appendleft(ticket)
        return request
