"""One request on its way: what is known of it, and how its next token is drawn."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import Tensor

from nomoat.core.errors import DataError, NomoatError, UsageError
from nomoat.engine.choose import History, check_logprobs, new_generator, pick
from nomoat.engine.constraint import masked
from nomoat.engine.lookup import Lookup
from nomoat.engine.prompt_scores import PromptScorer
from nomoat.engine.request import NO_TOKEN, Piece, Request, Top, check_tokens, fitted
from nomoat.engine.text import TextStream
from nomoat.model.load import Base


@dataclasses.dataclass(slots=True)
class Answer:
    """``known`` is prompt and output in one list, which the cache's room reads too; ``reused`` of it were
    cached when it began."""

    index: int
    request: Request
    prompt: list[int]
    known: list[int]
    limit: int
    text: TextStream
    generator: torch.Generator
    scorer: PromptScorer | None
    until: float
    output: list[int] = dataclasses.field(default_factory=list)
    reused: int | None = None
    lookup: Lookup = dataclasses.field(default_factory=Lookup)
    guesses: list[int] = dataclasses.field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Nothing came of it yet."""
        return not self.output

    def ending(self, reason: str, error: NomoatError | None = None) -> Piece:
        """The last piece of a request that ends without a draw; the text that was held back comes with it."""
        scores = self.scorer.scores() if self.scorer is not None and self.silent and error is None else None
        text = self.text.finish() if error is None else ""
        return Piece(
            self.index, text, NO_TOKEN, 0.0, reason, prompt_scores=scores, error=error, cached_tokens=self.reused or 0
        )

    def draw(self, logits: Tensor, logprobs: Tensor, base: Base) -> Piece:
        """Draw the next token from ``logits`` (V,), whose log-softmax comes along.

        Raises ``NomoatError`` when this request cannot go on.
        """
        check_logprobs(logprobs)
        wanted, request = self._adjusted(logits), self.request
        token = pick(wanted, History(self.prompt, self.output), request.sampling, self.generator)
        scores = self.scorer.scores() if self.scorer is not None and self.silent else None
        self.output.append(token)
        self.known.append(token)
        ended = token in base.tokenizer.eos_ids
        mute = ended or token in base.tokenizer.control_ids
        text = "" if mute else self.text.push(base.tokenizer.token_text(token))
        reason = self._finish_reason(ended)
        if reason is not None:
            text += self.text.finish()
        top = top_of(logprobs, request.top_logprobs)
        return Piece(self.index, text, token, float(logprobs[token]), reason, top, scores, None, self.reused or 0)

    def _adjusted(self, logits: Tensor) -> Tensor:
        bias, constraint = self.request.logit_bias, self.request.constraint
        if bias:
            logits = logits.clone()
            logits[list(bias)] += torch.tensor(list(bias.values()))
        if constraint is None:
            return logits
        try:
            return masked(logits, constraint.allowed(self.output))
        except NomoatError:
            raise
        except Exception as error:  # whatever a grammar's library raises, it is this request's affair only
            raise DataError(f"the constraint failed: {error}") from error

    def _finish_reason(self, ended: bool) -> str | None:
        if ended or self.text.stopped:
            return "stop"
        return "length" if len(self.output) >= self.limit else None


def new_answer(index: int, request: Request, context: int, vocabulary: int) -> Answer:
    """Begin a request. Raises ``UsageError`` if its prompt does not fit or what it asks for cannot be."""
    prompt, _ = fitted(request, context)
    check_tokens((*request.logit_bias, *prompt), vocabulary)
    if not all(math.isfinite(bias) for bias in request.logit_bias.values()):
        raise UsageError("a logit bias must be a finite number")
    if request.top_logprobs < 0:
        raise UsageError(f"top_logprobs is {request.top_logprobs} and must be 0 or more")
    return Answer(
        index=index,
        request=request,
        prompt=prompt,
        known=list(prompt),
        limit=min(request.sampling.max_tokens, context - len(prompt)),
        text=TextStream(request.sampling.stop),
        generator=new_generator(request.sampling.seed),
        scorer=PromptScorer(prompt, request.top_logprobs) if request.score_prompt else None,
        until=float("inf") if request.deadline_s is None else time.monotonic() + request.deadline_s,
    )


def top_of(logprobs: Tensor, n: int) -> Top:
    """The ``n`` likeliest of log-probabilities (V,)."""
    if n == 0:
        return ()
    values, ids = logprobs.topk(min(n, logprobs.shape[0]))
    return tuple(zip(ids.tolist(), values.tolist()))
