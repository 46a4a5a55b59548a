"""How much each column of each matrix counts: the mean square of what the user's own rows multiply it with.

The idea of llama.cpp's importance matrix: an error in a weight is seen through the activation it meets, so the
expected squared error of the output weighs each column by the mean square of its input.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from nomoat.core.records import Progress
from nomoat.formats.weights import Floats
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.linear import linears_of, watched
from nomoat.model.load import Base
from nomoat.model.template import Encoded

_PACK_TOKENS = 2048


class _Meter:
    """Sums squares of what each linear layer is given."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.tokens: dict[str, int] = {}

    def __call__(self, name: str, x: Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0) + x.detach().double().square().sum(0)
        self.tokens[name] = self.tokens.get(name, 0) + x.shape[0]


@torch.inference_mode()
def measure_importance(
    base: Base, stack: Stack, rows: Sequence[Encoded]
) -> Generator[Progress, None, dict[str, Floats]]:
    """Run ``rows`` through the base wearing ``stack``: module name -> (in,), of every linear layer but the head.

    llama.cpp leaves the head out too: a head that is also the embedding would be bent for rare tokens.
    """
    meter = _Meter()
    with watched([linear for linear in linears_of(base.decoder) if linear.name != "lm_head"], meter):
        done = 0
        while done < len(rows):
            group = _group(rows, done)
            tokens = torch.tensor([token for row in group for token in row.ids])
            base.decoder(tokens, Layout([len(row.ids) for row in group]), stack)
            done += len(group)
            yield Progress("importance", done, len(rows), "rows")
    return {name: (total / meter.tokens[name]).float().numpy() for name, total in meter.sums.items()}


def usable(importance: Floats) -> Floats:
    """With a floor, so that a column that these rows never touch is still stored with care."""
    floor = importance.mean() * np.float32(1e-3)
    lifted: Floats = np.maximum(importance, floor if floor > 0 else np.float32(1))
    return lifted


def _group(rows: Sequence[Encoded], start: int) -> Sequence[Encoded]:
    end, tokens = start + 1, len(rows[start].ids)
    while end < len(rows) and tokens + len(rows[end].ids) <= _PACK_TOKENS:
        tokens += len(rows[end].ids)
        end += 1
    return rows[start:end]
