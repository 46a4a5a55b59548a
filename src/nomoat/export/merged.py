"""A base's matrices with a stack folded in, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nomoat.engine.names import Worn
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.update import Update, concatenated, update_of

ROWS_AT_A_TIME = 1024


def update_at(worn: Worn, module: str, weight: FrozenWeight) -> Update | None:
    """What the whole stack adds to one module; None where it leaves it alone."""
    parts = [
        update_of(adapter, module, weight).scaled(strength)
        for adapter, strength in worn
        if module in adapter.deltas and strength != 0.0
    ]
    return concatenated(parts) if parts else None


@torch.no_grad()
def merged_rows(
    weight: FrozenWeight, update: Update | None, *, embedding: bool = False, order: Tensor | None = None
) -> Iterator[Tensor]:
    """``W + B A`` in float32, (rows, in), ``ROWS_AT_A_TIME`` at a time; ``order`` says which row comes where.

    ``embedding``: W is (V, D) and the update (D, V). A piece is valid until the next one is asked for.
    """
    places = torch.arange(weight.shape[0]) if order is None else order
    for part in torch.split(places, ROWS_AT_A_TIME):
        rows = weight.gather(part)
        if update is not None and embedding:
            rows.addmm_(update.lora_A.T.index_select(0, part), update.lora_B.T)
        elif update is not None:
            rows.addmm_(update.lora_B.index_select(0, part), update.lora_A)
        yield rows
