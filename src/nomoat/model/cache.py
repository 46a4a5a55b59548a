"""Where tokens stand: the layout of a packed batch, and the cache of keys and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.core.errors import ShapeMismatch
from nomoat.kernels import memory
from nomoat.model.config import ModelConfig

PAGE = 16  # tokens


@dataclasses.dataclass(frozen=True)
class Layout:
    """Segments of one flat batch of new tokens, one after the other, without padding.

    ``lengths``: new tokens of each segment. ``starts``: tokens of it that the cache holds already (default none).
    ``slots``: its number in the cache (default 0, 1, 2 ...).
    """

    lengths: Sequence[int]
    starts: Sequence[int] = ()
    slots: Sequence[int] = ()

    def __post_init__(self) -> None:
        n = len(self.lengths)
        object.__setattr__(self, "lengths", tuple(self.lengths))
        object.__setattr__(self, "starts", tuple(self.starts) or (0,) * n)
        object.__setattr__(self, "slots", tuple(self.slots) or tuple(range(n)))
        if not len(self.lengths) == len(self.starts) == len(self.slots):
            raise ValueError("a layout needs one length, start and slot a segment")

    @property
    def n_tokens(self) -> int:
        return sum(self.lengths)

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

    def learned(self, loss_mask: Tensor) -> Tensor:
        """Flat index of the tokens that carry a loss: marked in ``loss_mask`` (T,), and not first in their segment."""
        marked = loss_mask.clone()
        marked[self.first_tokens()[torch.tensor(self.lengths) > 0]] = False
        return marked.nonzero()[:, 0]


class KVCache:
    """Keys and values in pages of ``PAGE`` tokens: (layers, pages * PAGE, K, C) each.

    A slot is a sequence; ``place`` says which pages hold it, in order, and a page may serve several. With ``int8``
    keys and values are kept in 8 bits with one scale a token and head.
    """

    def __init__(self, config: ModelConfig, n_pages: int, *, int8: bool = False) -> None:
        self._shape = (config.n_kv_heads, config.head_dim)
        self._n_layers, self.int8, self.n_pages = config.n_layers, int8, 0
        self._stored: list[Tensor] = []
        self._places: dict[int, Tensor] = {}  # where a slot's tokens are
        self._memo: dict[tuple[bool, Layout], Tensor] = {}  # what all layers of a step ask for
        self.resize(n_pages)

    @property
    def keys(self) -> Tensor:
        """(layers, tokens, K, C), float32, or 8 bits to be scaled."""
        return self._stored[0]

    @property
    def values(self) -> Tensor:
        """As ``keys``."""
        return self._stored[len(self._stored) // 2]

    @property
    def page_bytes(self) -> int:
        """What a page takes, in all layers."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._stored) // self.n_pages

    def resize(self, n_pages: int) -> None:
        """Take more pages, empty ones; what is stored stays. The memory is touched when it is written to."""
        heads, width = self._shape
        exact, bytes, scales = (width, torch.float32), (width, torch.int8), (1, torch.float32)
        kinds = [bytes, scales, bytes, scales] if self.int8 else [exact, exact]
        old, tokens = self._stored, n_pages * PAGE
        with torch.inference_mode(False):  # or nobody could write to it outside of that mode
            self._stored = [memory.zeros((self._n_layers, tokens, heads, n), kind) for n, kind in kinds]
        for after, before in zip(self._stored, old):
            after[:, : before.shape[1]] = before
        self.n_pages = n_pages

    def place(self, slot: int, pages: Sequence[int]) -> None:
        """Say which pages hold a slot's tokens."""
        self.place_tokens(slot, (torch.tensor(pages)[:, None] * PAGE + torch.arange(PAGE)).flatten())

    def place_tokens(self, slot: int, places: Tensor) -> None:
        """Say where each of a slot's tokens is, page * PAGE + place in it; slots may share tokens. (n,)."""
        self._places[slot] = places
        self._memo.clear()

    def forget(self, slot: int) -> None:
        """The slot is empty."""
        self._places.pop(slot, None)
        self._memo.clear()

    def places(self, layout: Layout) -> list[Tensor]:
        """Where each segment's tokens are, the new ones too. Raises ``ShapeMismatch`` where there is no place."""
        for slot, start, length in zip(layout.slots, layout.starts, layout.lengths):
            room = self._places[slot].shape[0] if slot in self._places else 0
            if start < 0 or length < 0 or start + length > room:
                raise ShapeMismatch(f"tokens {start} to {start + length} of slot {slot}, which has room for {room}")
        return [self._places[slot] for slot in layout.slots]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first ``tokens`` of one page to another."""
        for tensor in self._stored:
            tensor[:, target * PAGE : target * PAGE + tokens] = tensor[:, source * PAGE : source * PAGE + tokens]

    def write(self, layer: int, layout: Layout, k: Tensor, v: Tensor) -> None:
        """Store new keys and values (T, K, C) at their segments' places."""
        places = self._flat_places(layout, new=True)
        kept = [*_in_bytes(k), *_in_bytes(v)] if self.int8 else [k, v]
        for tensor, new in zip(self._stored, kept):
            tensor[layer].index_copy_(0, places, new)

    def read(self, layer: int, layout: Layout) -> tuple[Tensor, Tensor]:
        """Each segment's keys and values, cached and new, one segment after the other: (sum, K, C) each."""
        places = self._flat_places(layout, new=False)
        found = [tensor[layer].index_select(0, places) for tensor in self._stored]
        return (found[0] * found[1], found[2] * found[3]) if self.int8 else (found[0], found[1])

    def _flat_places(self, layout: Layout, *, new: bool) -> Tensor:
        """Where the tokens of a step's segments are, one segment after the other; of ``new`` ones alone."""
        if (new, layout) not in self._memo:
            ranges = zip(self.places(layout), layout.starts, layout.lengths)
            found = [places[start if new else 0 : start + length] for places, start, length in ranges]
            self._memo[new, layout] = torch.cat(found)
        return self._memo[new, layout]


def _in_bytes(x: Tensor) -> tuple[Tensor, Tensor]:
    """(T, K, C) -> 8-bit (T, K, C) and its scale (T, K, 1)."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return (x / scale).round_().to(torch.int8), scale
