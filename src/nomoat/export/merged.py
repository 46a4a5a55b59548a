"""A base's matrices with a stack folded in, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nomoat.engine.names import Worn
from nomoat.model.adapters import is_embedding
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.merge_weight import stored_update

ROWS_AT_A_TIME = 1024


@torch.no_grad()
def merged_rows(worn: Worn, module: str, weight: FrozenWeight, *, order: Tensor | None = None) -> Iterator[Tensor]:
    """``W`` plus what the stack adds to it, float32 (rows, in), ``ROWS_AT_A_TIME`` at a time.

    ``order`` says which row comes where. A piece is the taker's own.
    """
    touched = touches(worn, module)
    update = stored_update(worn, module, weight, by_token=is_embedding(module)) if touched else None
    places = torch.arange(weight.shape[0]) if order is None else order
    for part in torch.split(places, ROWS_AT_A_TIME):
        rows = weight.gather(part)
        if update is not None:
            rows.addmm_(update.lora_B.index_select(0, part), update.lora_A)
        yield rows


def touches(worn: Worn, module: str) -> bool:
    """Whether the stack changes the module at all."""
    return any(module in adapter.deltas for adapter, strength in worn if strength != 0.0)
