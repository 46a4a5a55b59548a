"""The one way to generate: many requests in, pieces of text out as they come."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterable

from nomoat.core.errors import UsageError
from nomoat.engine.batch import Batch, Piece, Request, check_fits, stack_key
from nomoat.model.cache import KVCache
from nomoat.model.load import Base

__all__ = ["Completion", "Engine", "Piece", "Request"]

CACHE_BYTES = 1 << 30  # fewer requests run together when their caches would take more


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. ``tokens`` are all drawn ids, the end-of-turn token too, with their log-probabilities.

    ``seconds`` is from the call to the request's last token, the wait for a free row included.
    """

    text: str
    tokens: list[int]
    logprobs: list[float]
    finish_reason: str
    prompt_tokens: int
    seconds: float


class Engine:
    """Answers requests on one base, at most ``max_batch`` at a time.

    ``max_context`` lowers the base's own context length, prompt and answer together, in tokens.
    """

    def __init__(self, base: Base, *, max_batch: int = 16, max_context: int | None = None) -> None:
        if max_batch < 1:
            raise UsageError(f"max_batch is {max_batch} and must be 1 or more")
        self.base = base
        self.max_batch = max_batch
        self.context = context_of(base, max_context)

    def stream(self, requests: Iterable[Request]) -> Generator[Piece, None, None]:
        """Yield a piece for every drawn token, the requests' pieces interleaved. Close it to stop.

        A request's text depends on its own tokens, sampling and stack only, not on its neighbours. Requests
        with the same stack run together. Raises ``UsageError`` before anything runs if a prompt is too long.
        """
        waiting = list(requests)
        if not waiting:
            return
        for request in waiting:
            check_fits(request, self.context)
        batch = self._batch_for(waiting)
        for index, request in _by_stack(waiting):
            batch.add(index, request)
        while not batch.idle:
            yield from batch.step()

    def complete(self, requests: Iterable[Request]) -> list[Completion]:
        """Answer all requests; the completions stand in the requests' order."""
        started = time.perf_counter()
        asked = list(requests)
        pieces: list[list[Piece]] = [[] for _ in asked]
        seconds = [0.0] * len(asked)
        for piece in self.stream(asked):
            pieces[piece.index].append(piece)
            seconds[piece.index] = time.perf_counter() - started
        return [
            Completion(
                text="".join(piece.text for piece in own),
                tokens=[piece.token for piece in own],
                logprobs=[piece.logprob for piece in own],
                finish_reason=own[-1].finish_reason or "length",
                prompt_tokens=len(request.tokens),
                seconds=took,
            )
            for request, own, took in zip(asked, pieces, seconds)
        ]

    def _batch_for(self, requests: list[Request]) -> Batch:
        """A batch whose cache is as large as these requests can need, and no larger."""
        config = self.base.decoder.config
        longest = max(len(request.tokens) + request.sampling.max_tokens for request in requests)
        length = min(longest, self.context)
        row_bytes = 2 * 4 * config.n_layers * config.n_kv_heads * config.head_dim * length
        slots = max(1, min(self.max_batch, len(requests), CACHE_BYTES // row_bytes))
        cache = KVCache(config, slots, length)
        return Batch(self.base, cache, slots=slots, context=self.context)


def context_of(base: Base, max_context: int | None) -> int:
    """The context length in tokens. Raises ``UsageError`` if more is asked than the base was made for."""
    most = base.decoder.config.max_seq_len
    if max_context is None:
        return most
    if not 2 <= max_context <= most:
        raise UsageError(f"the context cannot be {max_context:,} tokens: {base.name} takes 2 to {most:,}")
    return max_context


def text_ids(base: Base, text: str) -> list[int]:
    """Token ids of a plain text to go on from, with BOS where the base was trained with one."""
    words = base.tokenizer
    bos = [words.bos_id] if words.adds_bos and words.bos_id is not None else []
    return bos + words.encode(text)


def _by_stack(requests: list[Request]) -> list[tuple[int, Request]]:
    """Requests with their numbers, those of one stack together, in the order their stacks first appear."""
    groups: dict[object, list[tuple[int, Request]]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(stack_key(request.stack), []).append((index, request))
    return [pair for group in groups.values() for pair in group]
