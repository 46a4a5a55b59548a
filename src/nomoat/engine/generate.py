"""The one way to generate: many requests in, pieces of text out as they come."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterable

from nomoat.core.errors import UsageError
from nomoat.engine.batch import Batch, BatchOptions
from nomoat.engine.request import NO_TOKEN, Piece, PromptScores, Request, fitted
from nomoat.model.load import Base

__all__ = ["Completion", "Engine", "Piece", "Request"]

CACHE_BYTES = 1 << 30  # fewer requests run together when their caches would take more


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. ``tokens`` are all drawn ids, the end-of-turn token too, with their log-probabilities.

    ``seconds`` is from the call to the request's last token, the wait for a free row included.
    ``truncated_tokens`` of the prompt were left out, which only a request that allows it can have.
    """

    text: str
    tokens: list[int]
    logprobs: list[float]
    finish_reason: str
    prompt_tokens: int
    seconds: float
    truncated_tokens: int = 0
    prompt_scores: PromptScores | None = None


class Engine:
    """Answers requests on one base, at most ``max_batch`` at a time.

    ``max_context`` lowers the base's own context length, prompt and answer together, in tokens. ``round_prompts``: see
    ``BatchOptions``.
    """

    def __init__(
        self, base: Base, *, max_batch: int = 16, max_context: int | None = None, round_prompts: bool = False
    ) -> None:
        if max_batch < 1:
            raise UsageError(f"max_batch is {max_batch} and must be 1 or more")
        self.base = base
        self.max_batch = max_batch
        self.context = context_of(base, max_context)
        self.round_prompts = round_prompts

    def stream(self, requests: Iterable[Request]) -> Generator[Piece, None, None]:
        """Yield a piece for every drawn token, the requests' pieces interleaved. Close it to stop.

        A request's text depends on its own tokens, sampling and stack only, not on its neighbours. Raises
        ``UsageError`` before anything runs if a prompt is too long, and what a request ends with where that is an
        error.
        """
        waiting = list(requests)
        if not waiting:
            return
        longest = max(len(fitted(request, self.context)[0]) + request.sampling.max_tokens for request in waiting)
        context = min(longest, self.context)
        slots = min(self.max_batch, len(waiting))
        options = BatchOptions(
            context=context, max_batch=slots, cache_bytes=CACHE_BYTES, round_prompts=self.round_prompts
        )
        batch = Batch(self.base, options)
        for index, request in enumerate(waiting):
            batch.add(index, request)
        while not batch.idle:
            for piece in batch.step():
                if piece.error is not None:
                    raise piece.error
                yield piece

    def complete(self, requests: Iterable[Request]) -> list[Completion]:
        """Answer all requests; the completions stand in the requests' order."""
        started = time.perf_counter()
        asked = list(requests)
        pieces: list[list[Piece]] = [[] for _ in asked]
        seconds = [0.0] * len(asked)
        for piece in self.stream(asked):
            pieces[piece.index].append(piece)
            seconds[piece.index] = time.perf_counter() - started
        return [self._completion(request, own, took) for request, own, took in zip(asked, pieces, seconds)]

    def _completion(self, request: Request, pieces: list[Piece], seconds: float) -> Completion:
        prompt, dropped = fitted(request, self.context)
        drawn = [piece for piece in pieces if piece.token != NO_TOKEN]
        return Completion(
            text="".join(piece.text for piece in pieces),
            tokens=[piece.token for piece in drawn],
            logprobs=[piece.logprob for piece in drawn],
            finish_reason=pieces[-1].finish_reason or "length",
            prompt_tokens=len(prompt),
            seconds=seconds,
            truncated_tokens=dropped,
            prompt_scores=pieces[0].prompt_scores,
        )


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
