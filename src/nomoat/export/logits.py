"""How far an exported model is from base and stack, in its predictions: KL divergence and greedy agreement."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from nomoat.core.errors import ParityMismatch
from nomoat.core.records import Progress
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.load import Base

_PLACES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """What is let pass: mean KL in nats per token, and the share of places with the same likeliest token."""

    kl: float
    agreement: float


# By preset, so that a wrong scale or a swapped matrix stands out and honest rounding does not: Q8_0 and Q4_K_M a few
# times what SmolLM2-135M showed (`bench/export.py`), the others set between them by their bits.
BOUNDS: dict[str, Bound] = {
    "F32": Bound(1e-4, 0.99),
    "BF16": Bound(0.02, 0.93),
    "F16": Bound(1e-3, 0.98),
    "Q8_0": Bound(0.01, 0.95),
    "Q6_K": Bound(0.03, 0.92),
    "Q5_K_M": Bound(0.08, 0.85),
    "Q4_K_M": Bound(0.25, 0.75),
    "Q4_0": Bound(0.4, 0.7),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """Over ``tokens`` places: mean and largest KL(trained || exported) in nats, share of equal likeliest tokens."""

    tokens: int
    kl: float
    worst_kl: float
    agreement: float

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)

    def check(self, bound: Bound, what: str) -> None:
        """Raise ``ParityMismatch`` where the damage is more than ``bound`` lets pass."""
        if self.kl <= bound.kl and self.agreement >= bound.agreement:
            return
        raise ParityMismatch(
            f"{what} is not what was trained: KL {self.kl:.4g} nats a token (let pass: {bound.kl:g}), same likeliest"
            f" token at {self.agreement:.1%} of {self.tokens:,} places (at least {bound.agreement:.0%})",
            hint="take a type with more bits, or let more pass: --max-kl",
        )


@torch.inference_mode()
def measure_damage(
    trained: tuple[Base, Stack], exported: tuple[Base, Stack], rows: Sequence[Sequence[int]]
) -> Generator[Progress, None, Damage]:
    """Compare next-token predictions at every place of ``rows`` (token ids)."""
    divergences: list[Tensor] = []
    agreements: list[Tensor] = []
    for done, ids in enumerate(rows, start=1):
        tokens, layout = torch.tensor(ids), Layout([len(ids)])
        ours, theirs = (base.decoder(tokens, layout, stack) for base, stack in (trained, exported))
        for places in torch.arange(len(ids)).split(_PLACES_AT_ONCE):  # type: ignore[no-untyped-call]
            p = torch.log_softmax(trained[0].decoder.logits(ours[places], trained[1]), -1)
            q = torch.log_softmax(exported[0].decoder.logits(theirs[places], exported[1]), -1)
            divergences.append((p.exp() * (p - q)).sum(-1))
            agreements.append(p.argmax(-1) == q.argmax(-1))
        yield Progress("comparing predictions", done, len(rows), "rows")
    kl, same = torch.cat(divergences), torch.cat(agreements)
    return Damage(len(kl), float(kl.mean()), float(kl.max()), float(same.float().mean()))
