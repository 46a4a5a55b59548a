"""A conversation: messages, and a cache that is kept between turns so that only what is new is read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from nomoat.engine.batch import Batch, Piece, Request, check_fits, stack_key
from nomoat.engine.generate import context_of
from nomoat.engine.sampling import Sampling
from nomoat.model.cache import KVCache
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from nomoat.model.template import prompt_ids

_CACHE_STEP = 1024  # tokens that the cache grows by at least; the full context could take gigabytes at once


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """What one answer took. ``reused_tokens`` of the prompt were in the cache already."""

    prompt_tokens: int
    reused_tokens: int
    tokens: int
    first_token_s: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Speed after the first token; of the whole where there is only one."""
        if self.tokens < 2:
            return self.tokens / self.seconds if self.seconds else 0.0
        return (self.tokens - 1) / max(self.seconds - self.first_token_s, 1e-9)


class Session:
    """One conversation on one base: a batch of one that comes back to its cache.

    Keys and values of a token depend on the tokens before it and on the stack, so the cache serves as far as the new
    prompt begins with the old ids under the same stack, and is dropped from there on.
    """

    def __init__(self, base: Base, *, stack: Stack = EMPTY, max_context: int | None = None) -> None:
        self.base = base
        self.context = context_of(base, max_context)
        self.messages: list[dict[str, Any]] = []
        self.last: Turn | None = None
        self._stack = stack
        self._cached: list[int] = []
        self._cache: KVCache | None = None

    @property
    def stack(self) -> Stack:
        """The adapters worn now, with their weights."""
        return self._stack

    @stack.setter
    def stack(self, stack: Stack) -> None:
        if stack_key(stack) != stack_key(self._stack):
            self._cached = []
        self._stack = stack

    @property
    def system(self) -> str:
        """The system message; setting an empty text takes it away."""
        first = self.messages[0] if self.messages else {"role": "", "content": ""}
        return str(first["content"]) if first["role"] == "system" else ""

    @system.setter
    def system(self, text: str) -> None:
        spoken = [message for message in self.messages if message["role"] != "system"]
        self.messages = ([{"role": "system", "content": text}] if text else []) + spoken

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self.messages = [message for message in self.messages if message["role"] == "system"]

    def ask(self, text: str, sampling: Sampling) -> Generator[Piece, None, None]:
        """Say ``text`` and stream the answer; both are part of the conversation from the first token on.

        Closing the iterator early keeps what was answered so far. When it raises before the first token (a prompt
        longer than the context, a template that refuses), the conversation is as it was.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        answer = ""
        for piece in self._answer(prompt_ids(self.base.tokenizer, self.base.template, messages), sampling):
            answer += piece.text
            self.messages = [*messages, {"role": "assistant", "content": answer}]
            yield piece

    def _answer(self, prompt: list[int], sampling: Sampling) -> Iterator[Piece]:
        request = Request(prompt, sampling, self._stack)
        check_fits(request, self.context)
        cache = self._room_for(min(len(prompt) + sampling.max_tokens, self.context))
        reused = min(_common_prefix(self._cached, prompt), len(prompt) - 1)
        self._cached = prompt[:reused]
        batch = Batch(self.base, cache, slots=1, context=self.context)
        batch.add(0, request, cached=reused)
        started, first, n_tokens = time.perf_counter(), 0.0, 0
        known = list(prompt)
        while not batch.idle:
            for piece in batch.step():
                self._cached = list(known)  # the piece's own token is read in the next step
                known.append(piece.token)
                n_tokens += 1
                seconds = time.perf_counter() - started
                first = first or seconds
                self.last = Turn(len(prompt), reused, n_tokens, first, seconds)
                yield piece

    def _room_for(self, tokens: int) -> KVCache:
        """The conversation's cache, grown to hold ``tokens``."""
        old = self._cache
        if old is not None and old.max_len >= tokens:
            return old
        room = min(-(-tokens // _CACHE_STEP) * _CACHE_STEP, self.context)
        cache = KVCache(self.base.decoder.config, 1, room)
        if old is not None:
            cache.keys[:, :, :, : old.max_len] = old.keys
            cache.values[:, :, :, : old.max_len] = old.values
        self._cache = cache
        return cache


def _common_prefix(old: Sequence[int], new: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
