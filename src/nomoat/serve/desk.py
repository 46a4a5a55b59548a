"""What every endpoint works with, and the steps that all generating endpoints share."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from nomoat.engine.request import NO_TOKEN, Piece, PromptScores, Request
from nomoat.engine.service import Service
from nomoat.serve.errors import RequestError
from nomoat.serve.fields import SamplingFields, bias_of, sampling_of
from nomoat.serve.grammar import Grammar, Grammars
from nomoat.serve.logprobs import Scored
from nomoat.serve.metrics import Metrics
from nomoat.serve.options import ServeOptions
from nomoat.serve.shelf import Outfit, Shelf

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Desk:
    """One server's parts. ``context``: the most tokens of a prompt and its answer together."""

    service: Service
    shelf: Shelf
    grammars: Grammars
    metrics: Metrics
    options: ServeOptions
    context: int
    started: int = dataclasses.field(default_factory=lambda: int(time.time()))

    async def outfit(self, fields: SamplingFields) -> Outfit:
        """What the request's model name means; opening an adapter leaves the event loop free."""
        scales = [(one.id, one.scale) for one in fields.lora or ()]
        return await aside(self.shelf.outfit, fields.model, scales)


async def aside(work: Callable[..., T], *args: Any) -> T:
    """Run slow work of the processor or the disk beside the event loop."""
    return await asyncio.to_thread(work, *args)


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids to go on from, and how many were cut off their front because the client asked for that."""

    tokens: list[int]
    truncated: int = 0


def fit_prompt(tokens: list[int], fields: SamplingFields, context: int, max_tokens: int | None) -> Prompt:
    """The prompt, cut from the left where ``truncate_prompt_tokens`` says so.

    Raises ``RequestError`` naming the limit for one that is too long.
    """
    room = context - min(max_tokens if max_tokens is not None else 1, context - 1)
    wanted = fields.truncate_prompt_tokens
    most = len(tokens) if wanted is None else room if wanted == -1 else max(1, min(wanted, room))
    kept = tokens[max(0, len(tokens) - most) :]
    if len(kept) + (max_tokens != 0) > context:
        raise RequestError(
            f"the prompt has {len(tokens):,} tokens; the context holds {context:,}, answer included",
            code="context_length_exceeded",
            param="messages",
            hint="shorten it, or ask for truncation with truncate_prompt_tokens: -1",
        )
    return Prompt(kept, len(tokens) - len(kept))


def engine_requests(
    desk: Desk,
    outfit: Outfit,
    prompt: Prompt,
    fields: SamplingFields,
    *,
    max_tokens: int | None,
    top_logprobs: int = 0,
    score_prompt: bool = False,
    grammar: Grammar | None = None,
) -> list[Request]:
    """One engine request for each of the choices."""
    room = desk.context - len(prompt.tokens)
    limit = room if max_tokens is None else min(max_tokens, room)
    return [
        Request(
            tokens=prompt.tokens,
            sampling=sampling_of(fields, limit, choice=choice),
            stack=outfit.worn,
            top_logprobs=top_logprobs,
            score_prompt=score_prompt,
            logit_bias=bias_of(fields, outfit.base.tokenizer.vocab_size),
            constraint=None if grammar is None else grammar.copy(),
            deadline_s=desk.options.deadline_s,
        )
        for choice in range(fields.choices)
    ]


@dataclasses.dataclass(slots=True)
class Tally:
    """One answer so far."""

    text: str = ""
    scored: list[Scored] = dataclasses.field(default_factory=list)
    finish_reason: str = "length"
    prompt_scores: PromptScores | None = None
    tokens: int = 0
    cached_tokens: int = 0

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.cached_tokens = max(self.cached_tokens, piece.cached_tokens)
        self.prompt_scores = piece.prompt_scores or self.prompt_scores
        if piece.token != NO_TOKEN:
            self.tokens += 1
            self.scored.append(Scored(piece.token, piece.logprob, piece.top_logprobs))
        if piece.finish_reason is not None:
            self.finish_reason = "stop" if piece.finish_reason == "stop" else "length"


def usage(prompts: Sequence[Prompt], tallies: Sequence[Tally]) -> dict[str, Any]:
    """OpenAI's ``usage``; a prompt that was cut says by how much."""
    read = sum(len(prompt.tokens) for prompt in prompts)
    written = sum(tally.tokens for tally in tallies)
    details: dict[str, int] = {"cached_tokens": max((tally.cached_tokens for tally in tallies), default=0)}
    if any(prompt.truncated for prompt in prompts):
        details["truncated_tokens"] = sum(prompt.truncated for prompt in prompts)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": details,
    }


def new_id(kind: str) -> str:
    """``chatcmpl-...``"""
    return f"{kind}-{uuid.uuid4().hex}"


def reply_head(kind: str, word: str, model: str) -> Mapping[str, Any]:
    """What every OpenAI object begins with."""
    return {"id": new_id(kind), "object": word, "created": int(time.time()), "model": model}
