"""Sums of DoRAs as DoRAs.

A DoRA adds factors and multiples of the base's own rows (``update.py``). Both add up, so a weighted sum of DoRAs and
plain adapters is of that form too; and whatever is of that form is a DoRA: ``B A`` with ``g`` times the rows of W is
``m (W + B' A) / |W + B' A| - W`` for ``B' = B / (1 + g)`` and ``m = (1 + g) |W + B' A|``, row by row.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from nomoat.core.errors import UsageError
from nomoat.model.delta import Delta
from nomoat.model.frozen import FrozenWeight
from nomoat.stack.update import Update

_LEAST = 1e-3  # of a row of the base that must be left: what has no length cannot be scaled


def as_dora(update: Update, weight: FrozenWeight) -> Delta:
    """The DoRA that adds the update to the base's ``weight``. Gradients flow on to its factors and its rows.

    Raises ``UsageError`` where the update takes a whole row of the base away, which no magnitude can say.
    """
    left = 1 + update.rows if update.rows is not None else update.lora_B.new_ones(update.shape[0])
    if bool((left.detach().abs() < _LEAST).any()):
        raise UsageError(
            "at these weights the sum takes whole rows of the base away, and no DoRA is that",
            hint="give weights nearer to 1, or compress it to a plain adapter: --rank 64",
        )
    # Not leaves, so that a gradient goes on to what they are made of.
    b = cast(nn.Parameter, update.lora_B / left[:, None])
    delta = Delta(nn.Parameter(update.lora_A, requires_grad=False), b, 1.0, bias=update.bias)
    with torch.no_grad():
        norm = delta.column_norm(weight)
    delta.magnitude = cast(nn.Parameter, left * norm)
    return delta
