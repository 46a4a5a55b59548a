"""One forward and backward pass for the steps of several adapters over one base.

The rows of each member are a run of the flat batch that wears that member's adapter (``MixedStack``); a document sees
none but itself, so a member's loss depends on its own adapter alone. Frozen matrices are read, and multiplied, once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from nomoat.data.pack import Packed
from nomoat.model.adapters import Adapter
from nomoat.model.cache import Layout
from nomoat.model.delta import MixedStack
from nomoat.model.load import Base
from nomoat.train.learner import Learner
from nomoat.train.loop import Gradients
from nomoat.train.prefix import Prefix
from nomoat.train.state import StepBatch

_Place = tuple[int, Packed]  # number of the member among those that step, and one of its pieces


def joint_gradients(
    base: Base, adapters: Mapping[str, Adapter], pack_tokens: int, prefix: Prefix | None
) -> Gradients[Packed]:
    """Gradients of learners called as in ``adapters``, in passes of at most ``pack_tokens`` tokens where pieces allow.

    Each member's pieces are those it has alone, in their order; so its gradients are summed in the same order.
    """

    def gradients(steps: Sequence[tuple[Learner[Packed], StepBatch[Packed]]]) -> list[float]:
        means = [0.0] * len(steps)
        for places in _passes([batch for _, batch in steps], pack_tokens):
            worn = [adapters[steps[member][0].name] for member, _ in places]
            losses = _losses(base, places, worn, prefix)
            shares = [loss / steps[member][1].count for (member, _), loss in zip(places, losses)]
            for (member, _), value in zip(places, torch.stack(shares).tolist()):
                means[member] += value
                if not math.isfinite(value):
                    raise steps[member][0].not_a_number("loss", value, steps[member][1])
            torch.stack(shares).sum().backward()  # type: ignore[no-untyped-call]
        return means

    return gradients


def _passes(batches: Sequence[StepBatch[Packed]], pack_tokens: int) -> Iterator[list[_Place]]:
    """First the first piece of every member, then the second ones; as many together as there is room for."""
    rounds = itertools.zip_longest(*(batch.pieces for batch in batches))
    places = [(member, piece) for pieces in rounds for member, piece in enumerate(pieces) if piece is not None]
    group, room = list[_Place](), pack_tokens
    for place in places:
        size = len(place[1].tokens)
        if group and size > room:
            yield group
            group, room = [], pack_tokens
        group.append(place)
        room -= size
    if group:
        yield group


def _losses(
    base: Base, places: Sequence[_Place], adapters: Sequence[Adapter], prefix: Prefix | None
) -> list[torch.Tensor]:
    """The summed loss of each piece."""
    pieces = [piece for _, piece in places]
    joined = Packed(
        tokens=torch.cat([piece.tokens for piece in pieces]),
        lengths=[length for piece in pieces for length in piece.lengths],
        loss_mask=torch.cat([piece.loss_mask for piece in pieces]),
    )
    stack = MixedStack([((adapter, 1.0),) for adapter in adapters], [len(piece.tokens) for piece in pieces])
    below = prefix(joined) if prefix is not None else None
    nll = base.decoder.next_token_losses(joined.tokens, Layout(joined.lengths), joined.loss_mask, stack, below).nll
    return [part.sum() for part in torch.split(nll, [piece.learned for piece in pieces])]
