"""Requests that run together over one cache: plan, one flat forward, draw, give out text.

``Engine`` fills a batch and empties it; a chat keeps a batch of one row and comes back to its cache.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable

import torch

from nomoat.core.errors import UsageError
from nomoat.engine.choose import History, choose, new_generator
from nomoat.engine.sampling import Sampling
from nomoat.engine.schedule import Scheduler, Segment
from nomoat.engine.text import TextStream
from nomoat.model.cache import KVCache, Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base

STEP_TOKENS = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Token ids to go on from, how to draw, and the adapters to wear. The ids are used as they are."""

    tokens: list[int]
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    stack: Stack = EMPTY


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """One drawn token of request ``index`` and the text that became certain with it (perhaps none).

    ``finish_reason`` is ``"stop"`` (end-of-turn token or stop string) or ``"length"`` on the last piece.
    ``logprob`` is the token's under the model, before penalties, filters and temperature, in nats.
    """

    index: int
    text: str
    token: int
    logprob: float
    finish_reason: str | None = None


@dataclasses.dataclass(slots=True)
class _Answer:
    """A request on its way."""

    request: Request
    limit: int
    text: TextStream
    generator: torch.Generator
    output: list[int]

    def token_range(self, start: int, length: int) -> list[int]:
        """Known tokens (prompt, then output) from ``start`` on."""
        prompt = self.request.tokens
        if start >= len(prompt):
            return self.output[start - len(prompt) :][:length]
        return (prompt[start : start + length] + self.output)[:length]


class Batch:
    """A running batch of at most as many requests as the cache has rows.

    ``context`` is the most tokens a request may reach, prompt and answer together.
    """

    def __init__(self, base: Base, cache: KVCache, *, slots: int, context: int) -> None:
        self._base = base
        self._cache = cache
        self._context = context
        self._scheduler = Scheduler(slots=slots, step_tokens=STEP_TOKENS)
        self._answers: dict[int, _Answer] = {}
        self._silent = frozenset(base.tokenizer.specials.values())

    @property
    def idle(self) -> bool:
        """Every request is answered."""
        return self._scheduler.idle

    def add(self, index: int, request: Request, *, cached: int = 0) -> None:
        """Queue a request under the caller's number; ``cached`` of its tokens are in the cache already."""
        check_fits(request, self._context)
        self._answers[index] = _Answer(
            request=request,
            limit=min(request.sampling.max_tokens, self._context - len(request.tokens)),
            text=TextStream(request.sampling.stop),
            generator=new_generator(request.sampling.seed),
            output=[],
        )
        group = stack_key(request.stack)
        self._scheduler.add(index, tokens=len(request.tokens), cached=cached, group=group)

    def cancel(self, index: int) -> None:
        """Give a request up; its row goes to the next one."""
        self._scheduler.finish(index)
        self._answers.pop(index, None)

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """Run one forward pass; return a piece for every request that got a token."""
        segments = self._scheduler.plan()
        hidden = self._forward(segments)
        for segment in segments:
            self._scheduler.advance(segment)
        ends = itertools.accumulate(segment.length for segment in segments)
        drawing = [(segment.request, end - 1) for segment, end in zip(segments, ends) if segment.samples]
        if not drawing:
            return []
        stack = self._answers[drawing[0][0]].request.stack
        logits = self._base.decoder.logits(hidden[[end for _, end in drawing]], stack)  # (N, V)
        return [self._draw(request, row) for (request, _), row in zip(drawing, logits)]

    def _forward(self, segments: list[Segment]) -> torch.Tensor:
        """Hidden states (T, D) of the segments' new tokens; their keys and values are in the cache after it."""
        tokens: list[int] = []
        for segment in segments:
            tokens += self._answers[segment.request].token_range(segment.start, segment.length)
        layout = Layout(
            lengths=[segment.length for segment in segments],
            starts=[segment.start for segment in segments],
            slots=[segment.slot for segment in segments],
        )
        stack = self._answers[segments[0].request].request.stack
        return self._base.decoder.forward(torch.tensor(tokens), layout, stack, self._cache)

    def _draw(self, index: int, logits: torch.Tensor) -> Piece:
        answer = self._answers[index]
        history = History(answer.request.tokens, answer.output)
        token, logprob = choose(logits, history, answer.request.sampling, answer.generator)
        answer.output.append(token)
        ended = token in self._base.tokenizer.eos_ids
        silent = ended or token in self._silent
        text = "" if silent else answer.text.push(self._base.tokenizer.token_text(token))
        reason = _finish_reason(answer, ended=ended)
        if reason is not None:
            text += answer.text.finish()
            self.cancel(index)
        return Piece(index, text, token, logprob, reason)


def _finish_reason(answer: _Answer, *, ended: bool) -> str | None:
    if ended or answer.text.stopped:
        return "stop"
    return "length" if len(answer.output) >= answer.limit else None


def check_fits(request: Request, context: int) -> None:
    """Raise ``UsageError`` unless the prompt leaves room for one token in ``context``."""
    if not request.tokens:
        raise UsageError("the prompt is empty: there is nothing to go on from")
    if len(request.tokens) >= context:
        raise UsageError(
            f"the prompt has {len(request.tokens):,} tokens; the context holds {context:,}, answer included",
            hint="shorten the prompt, or begin a new conversation",
        )


def stack_key(stack: Stack) -> Hashable:
    """Equal for stacks of the same adapter objects at the same weights."""
    return tuple((id(adapter), weight) for adapter, weight in stack)
