"""Log-likelihoods: of rows for losses, of choices for answers. No padding: rows share forwards, packed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from nomoat.core.errors import NumericError, UsageError
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base
from nomoat.model.template import Encoded

PACK_TOKENS = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """One entry per learned token of a row: its log-probability in nats, and whether it was the likeliest."""

    logprobs: list[float]
    greedy: list[bool]

    @property
    def total(self) -> float:
        """The log-likelihood of all learned tokens together, in nats."""
        return math.fsum(self.logprobs)


def score(base: Base, rows: Sequence[Encoded], stack: Stack = EMPTY, *, pack_tokens: int = PACK_TOKENS) -> list[Score]:
    """Score the tokens that each row's ``loss_mask`` marks, given all tokens before them in the row.

    A row's first token has nothing before it and is never scored. ``pack_tokens`` bounds a forward pass; a
    longer row runs alone. Raises ``UsageError`` for a row longer than the base's context and the one token that is
    only predicted.
    """
    for number, row in enumerate(rows):
        if len(row.ids) > base.decoder.config.max_seq_len + 1:
            raise UsageError(
                f"row {number} has {len(row.ids):,} tokens and the context holds {base.decoder.config.max_seq_len:,}"
            )
    scores: list[Score] = []
    for group in in_groups(rows, pack_tokens):
        scores += _score_packed(base, group, stack)
    return scores


def loss(
    base: Base, rows: Sequence[Encoded], stack: Stack = EMPTY, *, pack_tokens: int = PACK_TOKENS
) -> tuple[float, int]:
    """The mean negative log-likelihood per learned token, in nats, and how many tokens that is.

    Raises ``UsageError`` when the rows have nothing to score, ``NumericError`` when the mean is not a number.
    """
    scores = score(base, rows, stack, pack_tokens=pack_tokens)
    tokens = sum(len(one.logprobs) for one in scores)
    if tokens == 0:
        raise UsageError("there is not one learned token in these rows")
    mean = -math.fsum(one.total for one in scores) / tokens
    if not math.isfinite(mean):
        raise NumericError("the held-out loss is not a number")
    return mean, tokens


def perplexity(base: Base, rows: Sequence[Encoded], stack: Stack = EMPTY) -> float:
    """``exp`` of the mean loss: among how many equally likely tokens the model hesitates."""
    return math.exp(loss(base, rows, stack)[0])


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Which choice is likeliest: ``plain`` by total log-likelihood, ``normalised`` by its mean per token."""

    plain: int
    normalised: int
    totals: list[float]


def choose_by_likelihood(
    base: Base, prompt: Sequence[int], choices: Sequence[Sequence[int]], stack: Stack = EMPTY
) -> Choice:
    """Ask which continuation of ``prompt`` (token ids) the model finds likeliest. The first wins a tie."""
    if not prompt or len(choices) < 2 or not all(choices):
        raise UsageError("a choice needs a prompt and two or more continuations, none of them empty")
    rows = [
        Encoded(ids=[*prompt, *choice], loss_mask=[False] * len(prompt) + [True] * len(choice)) for choice in choices
    ]
    totals = [one.total for one in score(base, rows, stack)]
    means = [total / len(choice) for total, choice in zip(totals, choices)]
    return Choice(totals.index(max(totals)), means.index(max(means)), totals)


def in_groups(rows: Sequence[Encoded], pack_tokens: int) -> Iterator[list[Encoded]]:
    """Rows in order, as many together as fit in ``pack_tokens``."""
    group: list[Encoded] = []
    size = 0
    for row in rows:
        if group and size + len(row.ids) > pack_tokens:
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row.ids)
    if group:
        yield group


@torch.inference_mode()
def _score_packed(base: Base, rows: list[Encoded], stack: Stack) -> list[Score]:
    tokens = torch.tensor([token for row in rows for token in row.ids])
    mask = torch.tensor([learned for row in rows for learned in row.loss_mask])
    layout = Layout(lengths=[len(row.ids) for row in rows])
    losses = base.decoder.next_token_losses(tokens, layout, mask, stack)
    logprobs, greedy = iter((-losses.nll).tolist()), iter(losses.greedy.tolist())
    counts = [sum(row.loss_mask[1:]) for row in rows]
    return [Score(list(islice(logprobs, count)), list(islice(greedy, count))) for count in counts]
