"""``POST /v1/completions``: texts or token ids to go on from, with scores of the prompt where ``echo`` asks for them.

``echo`` with ``logprobs`` and ``max_tokens`` 0 or 1 is how log-likelihood evaluation reads a served model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from nomoat.engine.generate import text_ids
from nomoat.engine.request import Piece
from nomoat.engine.request import Request as EngineRequest
from nomoat.serve.answers import Answers, answered
from nomoat.serve.body import read_body
from nomoat.serve.desk import Desk, Prompt, Tally, aside, engine_requests, fit_prompt, reply_head, usage
from nomoat.serve.errors import RequestError
from nomoat.serve.events import sse
from nomoat.serve.fields import MAX_TOP_LOGPROBS, SamplingFields, Text
from nomoat.serve.forms import ResponseFormat, grammar_for
from nomoat.serve.logprobs import Scored, completion_logprobs
from nomoat.serve.shelf import Outfit

MAX_PROMPTS = 256
Ids = Annotated[list[int], Field(min_length=1)]


class CompletionBody(SamplingFields):
    prompt: (
        Text
        | Ids
        | Annotated[list[Text], Field(max_length=MAX_PROMPTS)]
        | Annotated[list[Ids], Field(max_length=MAX_PROMPTS)]
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = False
    response_format: ResponseFormat | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """A request, ready for the engine: ``n`` requests for each prompt, in the prompts' order."""

    body: CompletionBody
    outfit: Outfit
    prompts: list[Prompt]
    requests: list[EngineRequest]

    def prompt_of(self, number: int) -> Prompt:
        return self.prompts[number // self.body.choices]

    def echoed(self, number: int) -> str:
        """The prompt's text where it is part of the answer."""
        tokens = self.prompt_of(number).tokens
        words = self.outfit.base.tokenizer
        return b"".join(map(words.token_text, tokens)).decode("utf-8", "replace") if self.body.echo else ""


def routes(desk: Desk) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(http: Request) -> Response:
        body = await read_body(http, CompletionBody)
        outfit = await desk.outfit(body)
        work = await aside(prepare, desk, body, outfit)
        stream = partial(_stream, work) if body.stream else None
        return await answered(http, desk, work.requests, stream, partial(_whole, work))

    return router


def prepare(desk: Desk, body: CompletionBody, outfit: Outfit) -> Work:
    """Tokenize and check. Raises ``RequestError``."""
    limit = 16 if body.max_tokens is None else body.max_tokens
    grammar = grammar_for(desk.grammars, body.response_format, body.structured_outputs)
    prompts = [fit_prompt(ids, body, desk.context, limit) for ids in _prompt_ids(body, outfit)]
    scores = bool(body.echo) and body.logprobs is not None
    requests = [
        request
        for prompt in prompts
        for request in engine_requests(
            desk, outfit, prompt, body,
            max_tokens=limit, top_logprobs=body.logprobs or 0, score_prompt=scores, grammar=grammar,
        )
    ]  # fmt: skip
    return Work(body, outfit, prompts, requests)


def _prompt_ids(body: CompletionBody, outfit: Outfit) -> list[list[int]]:
    """Token ids of every prompt. Raises ``RequestError`` for ids outside the vocabulary."""
    given: Any = body.prompt
    several = isinstance(given, list) and bool(given) and not isinstance(given[0], int)
    each: Sequence[Any] = given if several else [given]
    if not each:
        raise RequestError("there is no prompt", param="prompt")
    size = outfit.base.decoder.config.vocab_size
    found = [text_ids(outfit.base, one) if isinstance(one, str) else one for one in each]
    for ids in found:
        if not ids:
            raise RequestError("a prompt is empty: there is nothing to go on from", param="prompt")
        if not all(0 <= token < size for token in ids):
            raise RequestError(f"a prompt holds a token id that is not below {size:,}", param="prompt")
    return found


async def _whole(work: Work, answers: Answers) -> dict[str, Any]:
    tallies = [Tally() for _ in work.requests]
    async for number, piece in answers:
        tallies[number].add(piece)
    return {
        **reply_head("cmpl", "text_completion", work.outfit.name),
        "choices": [_choice(work, number, tally) for number, tally in enumerate(tallies)],
        "usage": usage(work.prompts, tallies),
    }


def _choice(work: Work, number: int, tally: Tally) -> dict[str, Any]:
    logprobs = None
    if work.body.logprobs is not None:
        before = _prompt_scored(work, number, tally) if work.body.echo else []
        logprobs = completion_logprobs(work.outfit.base.tokenizer, [*before, *tally.scored])
    return {
        "index": number,
        "text": work.echoed(number) + tally.text,
        "logprobs": logprobs,
        "finish_reason": tally.finish_reason,
    }


def _prompt_scored(work: Work, number: int, tally: Tally) -> list[Scored]:
    tokens, scores = work.prompt_of(number).tokens, tally.prompt_scores
    if scores is None:
        return [Scored(token, None) for token in tokens]
    tops = scores.top or [()] * len(scores.logprobs)
    rest = [Scored(*one) for one in zip(tokens[1:], scores.logprobs, tops)]
    return [Scored(tokens[0], None), *rest]


async def _stream(work: Work, answers: Answers) -> AsyncIterator[bytes]:
    head = reply_head("cmpl", "text_completion", work.outfit.name)
    tallies = [Tally() for _ in work.requests]
    more = {"usage": None} if work.body.wants_usage else {}
    async for number, piece in answers:
        yield sse({**head, "choices": [_piece_choice(work, number, tallies[number], piece)], **more})
    if work.body.wants_usage:
        yield sse({**head, "choices": [], "usage": usage(work.prompts, tallies)})


def _piece_choice(work: Work, number: int, tally: Tally, piece: Piece) -> dict[str, Any]:
    """One piece as a choice; the first brings the echoed prompt."""
    first = tally.tokens == 0
    tally.add(piece)
    now = Tally(text=piece.text, scored=tally.scored[-1:], prompt_scores=piece.prompt_scores)
    choice = _choice(work, number, now) if first else _later_choice(work, number, now, tally)
    return {**choice, "finish_reason": None if piece.finish_reason is None else tally.finish_reason}


def _later_choice(work: Work, number: int, now: Tally, tally: Tally) -> dict[str, Any]:
    words = work.outfit.base.tokenizer
    offset = len(work.echoed(number)) + len(tally.text) - len(now.text)
    logprobs = completion_logprobs(words, now.scored, offset=offset) if work.body.logprobs is not None else None
    return {"index": number, "text": now.text, "logprobs": logprobs}
