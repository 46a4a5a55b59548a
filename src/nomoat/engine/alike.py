"""What a model would say next after many prompts: what they begin alike with is read once.

Prompts in the order of their tokens form packs, each one flat forward. A prompt brings only the tokens in which it
differs from the one before it; its other keys and values are that one's, written in the same forward or in the last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.engine.prefix import common
from nomoat.kernels.quick import quick_products
from nomoat.model.cache import PAGE, KVCache, Layout
from nomoat.model.delta import EMPTY, Stack
from nomoat.model.load import Base

PACK_TOKENS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Tokens to read after the first ``start`` tokens of the prompt before; ``prompts`` (numbers) end there."""

    prompts: list[int]
    start: int
    tokens: list[int]


def packs(prompts: Sequence[Sequence[int]], most: int) -> Iterator[list[Reading]]:
    """The prompts, none of them empty, in packs of at most ``most`` tokens to read; a longer rest is alone."""
    pack: list[Reading] = []
    before: list[int] = []
    for number in sorted(range(len(prompts)), key=lambda i: list(prompts[i])):
        prompt = list(prompts[number])
        start = common(before, prompt)
        if pack and start == len(prompt):  # the same prompt again
            pack[-1].prompts.append(number)
            continue
        if pack and sum(len(one.tokens) for one in pack) + len(prompt) - start > most:
            yield pack
            pack = []
        pack.append(Reading([number], start, prompt[start:]))
        before = prompt
    if pack:
        yield pack


def next_logprobs(
    base: Base, prompts: Sequence[Sequence[int]], candidates: Sequence[int], stack: Stack = EMPTY, *, parts: int = 2
) -> Iterator[tuple[int, list[float]]]:
    """For every prompt (token ids) its number and the log-probability in nats of each candidate right after it.

    They come pack by pack. ``parts``: see ``kernels.quick.quick_products``. Raises ``UsageError`` for a prompt that is
    empty or exceeds the context.
    """
    most = base.decoder.config.max_seq_len
    for number, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= most:
            raise UsageError(f"prompt {number} has {len(prompt):,} tokens and the context holds 1 to {most:,}")
    reader = _Reader(base, max(map(len, prompts), default=0), stack, parts)
    for pack in packs(prompts, PACK_TOKENS):
        rows = reader.read(pack, list(candidates)).tolist()
        for reading, row in zip(pack, rows, strict=True):
            for number in reading.prompts:
                yield number, row


class _Reader:
    """Reads packs in their order over one cache, which holds the prompt before a pack and the pack."""

    def __init__(self, base: Base, longest: int, stack: Stack, parts: int) -> None:
        self._base, self._stack, self._parts = base, stack, parts
        self._cache = KVCache(base.decoder.config, -(-(2 * longest + PACK_TOKENS) // PAGE))
        self._held = torch.empty(0, dtype=torch.long)  # where the tokens of the last prompt are

    @torch.inference_mode()
    def read(self, pack: list[Reading], candidates: list[int]) -> Tensor:
        """Log-probabilities after every reading, (readings, candidates)."""
        self._place(pack)
        lengths = [len(one.tokens) for one in pack]
        layout = Layout(lengths, [one.start for one in pack])
        tokens = torch.tensor([token for one in pack for token in one.tokens])
        with quick_products(parts=self._parts):
            hidden = self._base.decoder.forward(tokens, layout, self._stack, self._cache)
            logits = self._base.decoder.logits(hidden[torch.tensor(lengths).cumsum(0) - 1], self._stack)
        return logits.log_softmax(1)[:, candidates]

    def _place(self, pack: list[Reading]) -> None:
        idle = torch.ones(self._cache.n_pages * PAGE, dtype=torch.bool)
        idle[self._held[: pack[0].start]] = False
        free = idle.nonzero()[:, 0]
        for slot, reading in enumerate(pack):
            own, free = free[: len(reading.tokens)], free[len(reading.tokens) :]
            self._held = torch.cat([self._held[: reading.start], own])
            self._cache.place_tokens(slot, self._held)
