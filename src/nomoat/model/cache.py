"""Where tokens stand: the layout of a packed batch, and the cache of keys and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.model.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Layout:
    """Segments of one flat batch of new tokens, one after the other, without padding.

    ``lengths``: new tokens of each segment. ``starts``: tokens of it that the cache holds already (default none).
    ``slots``: its row in the cache (default 0, 1, 2 ...).
    """

    lengths: Sequence[int]
    starts: Sequence[int] = ()
    slots: Sequence[int] = ()

    def __post_init__(self) -> None:
        n = len(self.lengths)
        object.__setattr__(self, "starts", tuple(self.starts) or (0,) * n)
        object.__setattr__(self, "slots", tuple(self.slots) or tuple(range(n)))
        if not len(self.lengths) == len(self.starts) == len(self.slots):
            raise ValueError("a layout needs one length, start and slot a segment")

    @property
    def n_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def decodes(self) -> bool:
        """Whether every segment adds one token to what is cached."""
        return all(length == 1 for length in self.lengths) and any(self.starts)

    @property
    def fresh(self) -> bool:
        """Whether no segment has anything cached."""
        return not any(self.starts)

    def positions(self) -> Tensor:
        """Position of each token inside its own segment. (T,)."""
        ranges = [torch.arange(start, start + n) for start, n in zip(self.starts, self.lengths)]
        return torch.cat(ranges) if ranges else torch.empty(0, dtype=torch.long)

    def first_tokens(self) -> Tensor:
        """Flat index of the first new token of each segment. (segments,)."""
        ends = torch.tensor(self.lengths).cumsum(0)
        return ends - torch.tensor(self.lengths)


class KVCache:
    """Keys and values of ``n_slots`` sequences of at most ``max_len`` tokens: (layers, slots, K, max_len, C)."""

    def __init__(self, config: ModelConfig, n_slots: int, max_len: int) -> None:
        shape = (config.n_layers, n_slots, config.n_kv_heads, max_len, config.head_dim)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)
        self.max_len = max_len

    @property
    def size_bytes(self) -> int:
        return 2 * self.keys.numel() * self.keys.element_size()

    def write(self, layer: int, layout: Layout, k: Tensor, v: Tensor) -> None:
        """Store new keys and values (T, K, C) at their segments' places."""
        if layout.decodes:
            slots, places = torch.tensor(layout.slots), torch.tensor(layout.starts)
            self.keys[layer][slots, :, places] = k
            self.values[layer][slots, :, places] = v
            return
        offset = 0
        for length, start, slot in zip(layout.lengths, layout.starts, layout.slots):
            place = slice(start, start + length)
            self.keys[layer, slot, :, place] = k[offset : offset + length].transpose(0, 1)
            self.values[layer, slot, :, place] = v[offset : offset + length].transpose(0, 1)
            offset += length

    def read(self, layer: int, slots: Sequence[int], length: int) -> tuple[Tensor, Tensor]:
        """The first ``length`` keys and values of some slots: (B, K, length, C) each; a view where slots adjoin."""
        first, n = slots[0], len(slots)
        if list(slots) == list(range(first, first + n)):
            rows: slice | list[int] = slice(first, first + n)
        else:
            rows = list(slots)
        return self.keys[layer][rows, :, :length], self.values[layer][rows, :, :length]
