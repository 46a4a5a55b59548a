"""What an answer may say next: the seam for grammars, schemas and regular expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nomoat.core.errors import DataError


class Constraint(Protocol):
    """A rule on the tokens of one answer, asked once before each draw.

    It must allow an end-of-turn token where the answer may end. What it raises ends its own request, no other.
    """

    def allowed(self, output: Sequence[int]) -> Tensor:
        """The tokens that may follow ``output``: bool (V,), or int32 words of 32 tokens, lowest bit first."""
        ...


def masked(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits (V,) with everything else at minus infinity; tokens past the mask's end are not allowed.

    Raises ``DataError`` when nothing is left to say.
    """
    size = logits.shape[0]
    mask = allowed if allowed.dtype == torch.bool else _unpacked(allowed)
    if mask.shape[0] < size:
        mask = torch.cat([mask, mask.new_zeros(size - mask.shape[0])])
    mask = mask[:size]
    if not bool(mask.any()):
        raise DataError("the constraint allows no token here, not even the end of the answer")
    return logits.masked_fill(~mask, float("-inf"))


def _unpacked(words: Tensor) -> Tensor:
    """int32 (W,) -> bool (32 W,)."""
    return (words[:, None] >> torch.arange(32, dtype=words.dtype) & 1).bool().flatten()
