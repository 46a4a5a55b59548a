"""What a packed piece keeps in memory, counted from the base's shape: how a measured peak grows to other sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from nomoat.kernels.cross_entropy import LOGITS_BYTES
from nomoat.model.config import ModelConfig
from nomoat.model.recompute import Recompute
from nomoat.train.cost import Measure, Work

_FLOAT = 4
_ADAPTED = 7  # matrices of a layer, each with a low-rank product that is kept
_UNSEEN = 1.1  # allowance on growth beyond the largest piece that was run


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a piece: for a token, and for a learned token up to ``logits_bytes`` in all."""

    token: float
    learned: float = 0.0
    logits_bytes: int = 0

    @classmethod
    def of(cls, config: ModelConfig, policy: Recompute, *, rank: int, frozen_layers: int = 0) -> Footprint:
        """What is kept until the backward pass of a layer, and the temporaries of one layer's backward pass."""
        c = config
        heads, kv_heads = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
        attention = 2 * heads + 2 * kv_heads + (heads + kv_heads if c.qk_norm != "none" else 0)
        streams = (2 if c.norms == "pre" else 4) * c.d_model
        whole = streams + attention + 2 * c.d_ff + _ADAPTED * rank
        kept = {"least": whole, "mlp": whole - 2 * c.d_ff, "layer": c.d_model}[policy]
        remade = {"least": 0, "mlp": 2 * c.d_ff, "layer": whole}[policy]
        passing = 4 * c.d_ff + 4 * c.d_model + remade
        floats = (c.n_layers - frozen_layers) * kept + passing
        return cls(float(_FLOAT * floats), float(_FLOAT * c.vocab_size), LOGITS_BYTES)

    def size_bytes(self, work: Work) -> float:
        """Of one piece."""
        return self.token * work.tokens + min(self.logits_bytes, self.learned * work.learned)


def peak_at(measures: Sequence[Measure], seen: Footprint, wanted: Footprint, work: Work) -> int:
    """Resident bytes at a piece of that work with footprint ``wanted``, from measures made with ``seen``.

    Only the largest size counts: the runs of smaller ones hold what a larger one left behind.
    """
    largest = max(measure.work.tokens for measure in measures)
    top = max((m for m in measures if m.work.tokens == largest), key=lambda measure: measure.peak_bytes)
    growth = wanted.size_bytes(work) - seen.size_bytes(top.work)
    return int(top.peak_bytes + growth * (_UNSEEN if growth > 0 else 1.0))
