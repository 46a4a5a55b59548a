"""Vectors for texts: the mean of a text's last hidden states, of length 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.core.errors import NumericError, UsageError
from nomoat.engine.request import check_tokens
from nomoat.model.cache import Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base

_PACK_TOKENS = 1024


class EmbedJob:
    """Texts on their way to vectors, one packed forward pass a step.

    Raises ``UsageError`` when a text is empty or longer than ``context`` tokens.
    """

    def __init__(self, base: Base, tokens: Sequence[Sequence[int]], stack: Stack, context: int) -> None:
        for number, text in enumerate(tokens):
            if not text:
                raise UsageError(f"text {number} is empty: there is nothing to embed")
            if len(text) > context:
                raise UsageError(f"text {number} has {len(text):,} tokens and the context holds {context:,}")
            check_tokens(text, base.decoder.config.vocab_size)
        self._base, self._stack = base, stack
        self._left = list(tokens)
        self._found: list[Tensor] = []

    @torch.inference_mode()
    def step(self) -> bool:
        """Run the next texts, as many as fit a pass; whether that was all. Raises ``NumericError``."""
        pack: list[Sequence[int]] = []
        while self._left and (not pack or sum(map(len, pack)) + len(self._left[0]) <= _PACK_TOKENS):
            pack.append(self._left.pop(0))
        if pack:
            lengths = [len(text) for text in pack]
            flat = torch.tensor([token for text in pack for token in text])
            hidden = self._base.decoder(flat, Layout(lengths), self._stack)
            means = torch.stack([part.mean(0) for part in hidden.split(lengths)])  # (n, D)
            if not bool(means.isfinite().all()):
                raise NumericError("the model's hidden states are not numbers", hint="try again without the adapters")
            self._found.append(torch.nn.functional.normalize(means, dim=1))
        return not self._left

    def vectors(self) -> Tensor:
        """(n, D), in the order of the texts."""
        if not self._found:
            return torch.empty(0, self._base.decoder.config.d_model)
        return torch.cat(self._found)


def embed(base: Base, tokens: Sequence[Sequence[int]], stack: Stack = EMPTY) -> Tensor:
    """Vectors of texts (token ids). (n, D)."""
    job = EmbedJob(base, tokens, stack, base.decoder.config.max_seq_len)
    while not job.step():
        pass
    return job.vectors()
