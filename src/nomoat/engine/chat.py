"""A conversation: messages, and a cache that is kept between turns so that only what is new is read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator
from typing import Any

from nomoat.engine.batch import Batch, BatchOptions
from nomoat.engine.generate import context_of
from nomoat.engine.request import Piece, Request
from nomoat.engine.sampling import Sampling
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from nomoat.model.template import prompt_ids


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

    ``stack``, the adapters worn now with their weights, may change between turns: what was read under another stack
    is not used, and is there again when that one comes back.
    """

    def __init__(self, base: Base, *, stack: Stack = EMPTY, max_context: int | None = None) -> None:
        self.base = base
        self.context = context_of(base, max_context)
        self.messages: list[dict[str, Any]] = []
        self.last: Turn | None = None
        self.stack = stack
        self._batch = Batch(base, BatchOptions(context=self.context, max_batch=1, cache_bytes=0))

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
        self._batch.add(0, Request(prompt, sampling, self.stack))
        started, first, n_tokens = time.perf_counter(), 0.0, 0
        try:
            while not self._batch.idle:
                for piece in self._batch.step():
                    if piece.error is not None:
                        raise piece.error
                    n_tokens += 1
                    seconds = time.perf_counter() - started
                    first = first or seconds
                    self.last = Turn(len(prompt), piece.cached_tokens, n_tokens, first, seconds)
                    yield piece
        finally:
            self._batch.cancel(0)
