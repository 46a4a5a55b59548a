"""What reading prompts rounded does to the next word: the gate of ``--round-prompts``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from nomoat.kernels import quick
from nomoat.kernels.quick import quick_products
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.linear import linears_of
from nomoat.model.load import Base

DIVERGENCE: Final = 0.005  # nats a word that are let pass
_TOKENS: Final = 96  # of a text


@dataclasses.dataclass(frozen=True, slots=True)
class Rounding:
    """Over so many ``places`` of text: the mean Kullback-Leibler divergence of the next word's odds, in nats, and the
    share of places where the likeliest word is the same."""

    places: int
    divergence: float
    same: float

    @property
    def passes(self) -> bool:
        return self.divergence <= DIVERGENCE

    def __str__(self) -> str:
        return (
            f"{self.divergence:.4f} nats off a word ({DIVERGENCE:g} are let pass), the likeliest one the same in "
            f"{self.same:.1%} of {self.places} places"
        )


def can_round(base: Base) -> bool:
    """Whether this machine is quicker with rounded numbers on some matrix of the base."""
    weights = (linear.weight for linear in linears_of(base.decoder))
    return any(quick.takes(weight.data, weight.type) for weight in weights)


def rounding(base: Base, texts: Sequence[str], stack: Stack = EMPTY) -> Rounding:
    """Read the beginnings of ``texts`` both ways."""
    divergence, same, places = 0.0, 0, 0
    for text in texts:
        tokens = torch.tensor(base.tokenizer.encode(text)[:_TOKENS])
        exact, rounded = (_next(base, tokens, stack, parts) for parts in (2, 1))
        divergence += float((exact.exp() * (exact - rounded)).sum())
        same += int((exact.argmax(1) == rounded.argmax(1)).sum())
        places += len(tokens)
    return Rounding(places, divergence / max(1, places), same / max(1, places))


@torch.inference_mode()
def _next(base: Base, tokens: Tensor, stack: Stack, parts: int) -> Tensor:
    """Log-probabilities of the word after every token (T, V)."""
    with quick_products(parts):
        hidden = base.decoder.forward(tokens, Layout([len(tokens)]), stack)
    return base.decoder.logits(hidden, stack).log_softmax(1)
