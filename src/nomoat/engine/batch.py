"""Requests that run together over one cache: plan, one flat forward, draw, give out text.

``Engine`` fills a batch and empties it; a chat keeps a batch of one row and comes back to its cache; ``Service`` keeps
one for whoever comes.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.core.errors import NomoatError
from nomoat.engine.answer import Answer, new_answer
from nomoat.engine.lookup import MAX_ROWS, Pace, worth_guessing
from nomoat.engine.request import Piece, Request
from nomoat.engine.room import PagedRoom
from nomoat.engine.rounding import can_round
from nomoat.engine.schedule import Scheduler, Segment
from nomoat.engine.wear import Wear, cached_under
from nomoat.kernels import memory
from nomoat.kernels.quick import quick_products
from nomoat.model.cache import PAGE, KVCache, Layout
from nomoat.model.delta import AnyStack, MixedStack, Stack, Wearable, stack_key
from nomoat.model.load import Base

STEP_TOKENS = 512
SHARED_TOKENS = 256  # of a prompt in a step that others wait for
_SCORED_ROWS = 64  # logits of a prompt held at once


@dataclasses.dataclass(frozen=True, slots=True)
class BatchOptions:
    """``context``: the most tokens a request may reach, prompt and answer together. ``reuse``: what was read once
    serves every request that begins with it under the same adapters. ``cache_bytes`` are taken as they are needed.
    ``speculate``: guess tokens that stood in the text before, where that is faster; the answers are the same.
    ``round_prompts``: prompts whose own predictions nobody asked for are read with
    numbers rounded, where the machine is quicker with such (``kernels.quick``).
    """

    context: int
    max_batch: int = 16
    cache_bytes: int = 1 << 30
    reuse: bool = True
    int8_cache: bool = False
    speculate: bool = True
    round_prompts: bool = False


class Batch:
    """A running batch; requests come and go between its steps."""

    def __init__(self, base: Base, options: BatchOptions) -> None:
        self._base, self._options = base, options
        self._rounds = options.round_prompts and can_round(base)
        cache = KVCache(base.decoder.config, 1, int8=options.int8_cache)
        least = -(-options.context // PAGE) + 1  # one whole request, and one to copy from
        self._room = PagedRoom(
            cache, max_pages=max(least, options.cache_bytes // cache.page_bytes), reuse=options.reuse
        )
        self._cache = cache
        self._scheduler = Scheduler(
            self._room, slots=options.max_batch, step_tokens=STEP_TOKENS, shared_tokens=SHARED_TOKENS
        )
        self._answers: dict[int, Answer] = {}
        self._outgoing: list[Wearable] = []  # forgotten while a request wore them, which still reads under them
        self._pace = Pace()

    @property
    def idle(self) -> bool:
        """Every request is answered."""
        return self._scheduler.idle

    @property
    def n_waiting(self) -> int:
        return self._scheduler.n_waiting

    @property
    def n_running(self) -> int:
        return self._scheduler.n_running

    @property
    def cache_bytes(self) -> int:
        """What the cache holds: of those that run, and kept for those to come."""
        return self._room.used_bytes

    def add(self, index: int, request: Request) -> None:
        """Queue a request under the caller's number. Raises ``UsageError`` if its prompt does not fit."""
        config = self._base.decoder.config
        answer = new_answer(index, request, self._options.context, config.vocab_size)
        self._answers[index] = answer
        wear = cached_under(request.stack, config)
        # Keys of an answer are exact: as part of a later prompt they would be rounded, so they are nobody else's.
        shareable = self._n_rounded(answer) if self._rounds else sys.maxsize
        self._room.announce(index, wear, answer.known, shareable=shareable, reuse=answer.scorer is None)
        self._scheduler.add(index, len(answer.known))

    def cancel(self, index: int) -> None:
        """Give a request up; what it has read stays for others. No such request is nothing to do."""
        if index in self._answers:
            self._room.keep(index, self._scheduler.cached(index), ended=True)
            self._drop(index)

    def forget(self, adapter: Wearable) -> None:
        """Drop what was read under an adapter that will not be worn again, once those who wear it have ended."""
        self._room.drop(lambda wear: isinstance(wear, Wear) and _wears(wear.stack, adapter))
        if any(_wears(answer.request.stack, adapter) for answer in self._answers.values()):
            self._outgoing.append(adapter)

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """Read the next tokens of every request; return the pieces of those that got tokens or ended."""
        pieces = self._overdue()
        segments = self._by_stack(self._scheduler.plan(self._guess()))
        if not segments:
            return pieces
        hidden = self._read(segments)
        self._note_reuse(segments)
        drawing: list[tuple[Segment, Tensor]] = []
        for segment in segments:
            rows = hidden[segment.request]
            self._score_prompt(segment, rows)
            if segment.samples:
                drawing.append((segment, rows[-1 - segment.guesses :]))
            else:
                self._advance(segment, 0)
        return pieces + self._draw(drawing)

    def _drop(self, index: int) -> None:
        self._scheduler.finish(index)
        self._room.done(index)
        stack = self._answers.pop(index).request.stack
        for adapter in [one for one in self._outgoing if _wears(stack, one)]:
            self._outgoing = [one for one in self._outgoing if one is not adapter]
            self.forget(adapter)

    def _overdue(self) -> list[Piece]:
        """End the requests whose time is up."""
        now = time.monotonic()
        late = [answer for answer in self._answers.values() if answer.until <= now]
        for answer in late:
            self.cancel(answer.index)
        return [answer.ending("deadline") for answer in late]

    def _guess(self) -> dict[int, int]:
        """How many guessed tokens go along with each answer's next one."""
        answering = self._scheduler.answering()
        rows, guesses = len(answering), dict[int, int]()
        if not self._options.speculate or rows >= MAX_ROWS or rows < self._scheduler.n_running:
            return guesses
        for answer in (self._answers[index] for index in answering):
            if answer.silent and self._n_rounded(answer):  # its prompt's last token is not read as guesses are
                continue
            most = min(worth_guessing(answer.lookup.rate, self._pace, rows), answer.limit - len(answer.output) - 1)
            answer.guesses = answer.lookup.guess(answer.known, most) if most > 0 else []
            if most <= 0:
                answer.lookup.rest()
            if answer.guesses:
                guesses[answer.index] = len(answer.guesses)
                rows += len(answer.guesses)
        return guesses

    def _note_reuse(self, segments: list[Segment]) -> None:
        for segment in segments:
            answer = self._answers[segment.request]
            if answer.reused is None:
                answer.reused = segment.start

    def _by_stack(self, segments: list[Segment]) -> list[Segment]:
        """Segments of one stack side by side: their rows are computed as one run."""
        order: dict[object, int] = {}
        for segment in segments:
            order.setdefault(stack_key(self._stack_of(segment)), len(order))
        return sorted(segments, key=lambda segment: order[stack_key(self._stack_of(segment))])

    def _stack_of(self, segment: Segment) -> Stack:
        return self._answers[segment.request].request.stack

    def _worn(self, segments: Sequence[Segment], lengths: Sequence[int]) -> AnyStack:
        stacks = [self._stack_of(segment) for segment in segments]
        mixed = MixedStack(stacks, lengths)
        return stacks[0] if len(mixed.runs) == 1 else mixed

    def _n_rounded(self, answer: Answer) -> int:
        """How many of its first tokens are read rounded."""
        return len(answer.prompt) if self._rounds and answer.scorer is None else 0

    def _read(self, segments: list[Segment]) -> dict[int, Tensor]:
        """By request the hidden states (length, D) of its segment; rounded ones have a pass of their own."""
        rounded = [one for one in segments if one.start < self._n_rounded(self._answers[one.request])]
        exact = [one for one in segments if one not in rounded]
        hidden: dict[int, Tensor] = {}
        if rounded:
            with quick_products(parts=1):
                hidden |= self._forward(rounded)
        if exact:
            started = time.perf_counter()
            with quick_products():
                hidden |= self._forward(exact)
            if (n_rows := sum(one.length for one in exact)) <= MAX_ROWS:
                self._pace.time(n_rows, time.perf_counter() - started)
        return hidden

    def _forward(self, segments: list[Segment]) -> dict[int, Tensor]:
        """Hidden states of the segments' new tokens; their keys and values are in the cache after it."""
        tokens: list[int] = []
        for segment in segments:
            answer = self._answers[segment.request]
            tokens += answer.known[segment.start : segment.start + segment.length - segment.guesses]
            tokens += answer.guesses[: segment.guesses]
        lengths = [segment.length for segment in segments]
        layout = Layout(lengths, [segment.start for segment in segments], [segment.request for segment in segments])
        worn = self._worn(segments, lengths)
        with memory.lasting():
            hidden = self._base.decoder.forward(torch.tensor(tokens), layout, worn, self._cache)  # (T, D)
        return dict(zip((one.request for one in segments), torch.split(hidden, lengths), strict=True))

    def _draw(self, drawing: list[tuple[Segment, Tensor]]) -> list[Piece]:
        """The next token of every segment that draws, from its last hidden states."""
        if not drawing:
            return []
        segments = [segment for segment, _ in drawing]
        hidden = [rows for _, rows in drawing]
        worn = self._worn(segments, [rows.shape[0] for rows in hidden])
        logits = self._base.decoder.logits(torch.cat(hidden), worn)  # (N, V)
        logprobs = logits.log_softmax(-1)  # of all rows at once: one by one it is a tenth of a step
        pieces, start = [], 0
        for segment, rows in drawing:
            stop = start + rows.shape[0]
            pieces += self._draw_one(segment, logits[start:stop], logprobs[start:stop])
            start = stop
        return pieces

    def _draw_one(self, segment: Segment, logits: Tensor, logprobs: Tensor) -> list[Piece]:
        answer = self._answers[segment.request]
        if not answer.limit:
            self.cancel(answer.index)
            return [answer.ending("length")]
        pieces: list[Piece] = []
        try:
            for row in range(1 + segment.guesses):
                pieces.append(answer.draw(logits[row], logprobs[row], self._base))
                right = row < segment.guesses and pieces[-1].token == answer.guesses[row]
                if not right or pieces[-1].finish_reason is not None:
                    break
        except NomoatError as error:  # what it has read may not be numbers: it is not kept
            self._drop(answer.index)
            return [*pieces, answer.ending("error", error)]
        if segment.guesses:
            answer.lookup.learn(segment.guesses, len(pieces) - 1)
        self._advance(segment, len(pieces))
        if pieces[-1].finish_reason is not None:
            self.cancel(answer.index)
        return pieces

    def _advance(self, segment: Segment, drawn: int) -> None:
        self._scheduler.advance(segment, drawn)
        self._room.keep(segment.request, self._scheduler.cached(segment.request))

    def _score_prompt(self, segment: Segment, hidden: Tensor) -> None:
        """Give the prompt's own predictions to those who asked for them."""
        answer = self._answers[segment.request]
        if answer.scorer is None or not answer.silent:
            return
        for first in range(0, segment.length, _SCORED_ROWS):
            rows = hidden[first : first + _SCORED_ROWS]
            answer.scorer.add(segment.start + first, self._base.decoder.logits(rows, answer.request.stack))


def _wears(stack: Stack, adapter: Wearable) -> bool:
    return any(one is adapter for one, _ in stack)
