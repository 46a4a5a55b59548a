"""Losses of learned tokens over the head: frozen, or with adapters on it. Neither ever holds the full logits.

Letters: D width, V vocabulary, n learned tokens.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nomoat.kernels.cross_entropy import LOGITS_BYTES, Head
from nomoat.model.config import ModelConfig
from nomoat.model.delta import AnyStack, MixedStack
from nomoat.model.linear import Linear

_HEAD_SLICE = 16384  # vocabulary rows expanded at once


@dataclasses.dataclass(frozen=True, slots=True)
class TokenLosses:
    """Loss of every learned token in nats, in order, and whether it was the likeliest. (n,), (n,)."""

    nll: Tensor
    greedy: Tensor


def frozen_head(lm_head: Linear, config: ModelConfig) -> Head:
    """The frozen head as losses see it."""
    vocab, weight = config.vocab_size, lm_head.weight
    return Head(
        vocab,
        tuple(slice(i, min(i + _HEAD_SLICE, vocab)) for i in range(0, vocab, _HEAD_SLICE)),
        weight.expand,
        scale=config.logit_scale,
        softcap=config.logit_softcap,
        quick=weight.for_training(),
        quick_back=weight.for_gradient(),
    )


def adapted_losses(
    lm_head: Linear, config: ModelConfig, hidden: Tensor, targets: Tensor, stack: AnyStack
) -> TokenLosses:
    """Over a head that learns: chunks of rows, each computed again in backward. hidden (n, D), targets (n,)."""

    def losses(rows: Tensor, wanted: Tensor, worn: AnyStack) -> tuple[Tensor, Tensor]:
        logits = lm_head(rows, worn) * config.logit_scale
        if (cap := config.logit_softcap) is not None:
            logits = torch.tanh(logits / cap) * cap
        nll = nn.functional.cross_entropy(logits, wanted, reduction="none")
        return nll, logits.argmax(1) == wanted

    step = max(1, LOGITS_BYTES // (4 * config.vocab_size))
    parts = []
    for i in range(0, hidden.shape[0], step):
        rows = hidden[i : i + step]
        worn = stack.take(torch.arange(i, i + rows.shape[0])) if isinstance(stack, MixedStack) else stack
        parts.append(checkpoint(losses, rows, targets[i : i + step], worn, use_reentrant=False))
    if not parts:
        return TokenLosses(hidden.new_empty(0), torch.empty(0, dtype=torch.bool))
    return TokenLosses(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
