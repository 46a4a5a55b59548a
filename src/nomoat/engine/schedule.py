"""Who runs next. Plain numbers in, plain numbers out: no tensors, no model, so it can be tested alone.

A step is one forward pass over segments: a request that is answering adds one token, a request whose prompt
is not cached yet adds the next piece of it. Answers always run; prompts share the step's token budget in the
order they came, so a long prompt is read in pieces and never holds up those who wait for their next word.

All requests of a step belong to one group (they wear the same stack). The group that runs may take in more of
its own until somebody of another group waits in front of them; then it runs dry and the next has its turn.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable

from nomoat.core.errors import UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """New tokens of one request in a step: ``length`` of them after ``start`` cached ones, in row ``slot``.

    ``samples`` says that the request's next token is drawn from the segment's last position.
    """

    request: int
    slot: int
    start: int
    length: int
    samples: bool


@dataclasses.dataclass(slots=True)
class _Ticket:
    request: int
    total: int
    cached: int
    group: Hashable
    slot: int = -1


class Scheduler:
    """Hands out cache rows and plans steps for at most ``slots`` requests at a time.

    ``step_tokens`` bounds the prompt tokens of a step. Raises ``UsageError`` if either is below 1.
    """

    def __init__(self, *, slots: int, step_tokens: int) -> None:
        if slots < 1 or step_tokens < 1:
            raise UsageError(f"a batch needs at least 1 row and 1 token, not {slots} and {step_tokens}")
        self._free = list(range(slots - 1, -1, -1))
        self._step_tokens = step_tokens
        self._waiting: deque[_Ticket] = deque()
        self._running: dict[int, _Ticket] = {}

    @property
    def idle(self) -> bool:
        """Nobody runs and nobody waits."""
        return not self._running and not self._waiting

    def add(self, request: int, *, tokens: int, cached: int = 0, group: Hashable = None) -> None:
        """Queue a request of ``tokens`` known tokens; ``cached`` of them are in the row that it will get."""
        if not 0 <= cached < tokens:
            raise UsageError(f"request {request}: {cached} of {tokens} tokens cached leaves nothing to run")
        self._waiting.append(_Ticket(request, tokens, cached, group))

    def plan(self) -> list[Segment]:
        """The segments of the next step: answers first, then pieces of prompts. Empty when idle."""
        self._admit()
        answering = [ticket for ticket in self._running.values() if ticket.total - ticket.cached == 1]
        reading = [ticket for ticket in self._running.values() if ticket.total - ticket.cached > 1]
        segments = [_segment(ticket, 1) for ticket in answering]
        left = self._step_tokens
        for ticket in reading:
            length = min(left, ticket.total - ticket.cached)
            if length == 0:
                break
            segments.append(_segment(ticket, length))
            left -= length
        return segments

    def advance(self, segment: Segment) -> None:
        """The segment ran: its tokens are cached, and a token was drawn if it samples."""
        ticket = self._running[segment.request]
        ticket.cached += segment.length
        ticket.total += segment.samples

    def finish(self, request: int) -> None:
        """The request is answered or was given up; its row is free for the next."""
        ticket = self._running.pop(request, None)
        if ticket is not None:
            self._free.append(ticket.slot)
        else:
            self._waiting = deque(ticket for ticket in self._waiting if ticket.request != request)

    def _admit(self) -> None:
        while self._waiting and self._free:
            first = self._waiting[0]
            if any(ticket.group != first.group for ticket in self._running.values()):
                return
            first.slot = self._free.pop()
            self._running[first.request] = self._waiting.popleft()


def _segment(ticket: _Ticket, length: int) -> Segment:
    end = ticket.cached + length
    return Segment(ticket.request, ticket.slot, ticket.cached, length, samples=end == ticket.total)
