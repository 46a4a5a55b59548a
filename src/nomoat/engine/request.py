"""What is asked of the engine, and what comes back: plain records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from nomoat.core.errors import NomoatError, UsageError
from nomoat.engine.constraint import Constraint
from nomoat.engine.sampling import Sampling
from nomoat.model.delta import EMPTY, Stack

NO_TOKEN = -1
Top = tuple[tuple[int, float], ...]  # the likeliest token ids with their log-probabilities, best first


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Token ids to go on from, how to draw, and the adapters to wear. The ids are used as they are.

    ``top_logprobs`` asks for that many alternatives to every token; ``score_prompt`` for the prompt's own
    log-probabilities (with ``max_tokens`` 0, for nothing else). ``logit_bias`` is added to the logits before
    everything else. ``deadline_s`` counts from the moment the request is queued. ``truncate`` drops the middle
    of a prompt that is too long, where otherwise it is refused.
    """

    tokens: list[int]
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    stack: Stack = EMPTY
    top_logprobs: int = 0
    score_prompt: bool = False
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    constraint: Constraint | None = None
    deadline_s: float | None = None
    truncate: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PromptScores:
    """The prompt under the model: one entry for every token after the first, in nats.

    ``greedy``: whether the token was the likeliest. ``top`` holds the alternatives, where they were asked for.
    """

    logprobs: list[float]
    greedy: list[bool]
    top: list[Top]


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """One drawn token of request ``index`` and the text that became certain with it (perhaps none).

    ``finish_reason`` stands on the last piece: ``"stop"`` (end-of-turn token or stop string), ``"length"``,
    ``"deadline"``, or ``"error"`` with the ``error``. A request that ends without a draw has ``token`` NO_TOKEN.
    ``logprob`` is the token's under the model, before bias, constraint, penalties, filters and temperature, in nats.
    ``prompt_scores`` come with the first piece. ``cached_tokens`` of the prompt did not have to be read.
    """

    index: int
    text: str
    token: int
    logprob: float
    finish_reason: str | None = None
    top_logprobs: Top = ()
    prompt_scores: PromptScores | None = None
    error: NomoatError | None = None
    cached_tokens: int = 0


def check_tokens(tokens: Iterable[int], vocabulary: int) -> None:
    """Raise ``UsageError`` for an id that no token has."""
    for token in tokens:
        if not 0 <= token < vocabulary:
            raise UsageError(f"there is no token {token}: the vocabulary has {vocabulary:,}")


def fitted(request: Request, context: int) -> tuple[list[int], int]:
    """The prompt as it fits into ``context`` tokens, answer included, and how many tokens were dropped.

    Raises ``UsageError`` when there is no prompt, or when it is too long and may not be cut.
    """
    tokens, wanted = request.tokens, request.sampling.max_tokens
    if not tokens:
        raise UsageError("the prompt is empty: there is nothing to go on from")
    most = context if wanted == 0 else context - 1
    if len(tokens) <= most:
        return tokens, 0
    if not request.truncate:
        raise UsageError(
            f"the prompt has {len(tokens):,} tokens; the context holds {context:,}, answer included",
            hint="shorten the prompt, or begin a new conversation",
        )
    kept = max(1, most - min(wanted, context // 4))
    head = min(kept // 2, 1)  # the first token tells many models that a text begins
    cut = [*tokens[:head], *tokens[len(tokens) - (kept - head) :]]
    return cut, len(tokens) - len(cut)
