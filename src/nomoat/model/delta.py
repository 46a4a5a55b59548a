"""What one adapter adds to one layer, and the stack of adapters a forward pass wears.

LoRA: Hu et al. 2021 (arXiv 2106.09685) section 4.1; rsLoRA's scale: Kalajdzievski 2023; DoRA: Liu et al. 2024
(arXiv 2402.09353) section 4, in PEFT's form (the norm is a constant in backward, section 4.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from nomoat.model.frozen import FrozenWeight


@dataclasses.dataclass(slots=True)
class Delta:
    """``scaling * lora_B @ lora_A`` on one layer.

    Shapes: ``lora_A`` (R, in), ``lora_B`` (out, R), ``magnitude`` (out,) for DoRA. ``anchor`` is a frozen pair
    subtracted from it (PiSSA starts away from zero on a base that must not change). On an embedding ``in`` is the
    vocabulary.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scaling: float
    magnitude: nn.Parameter | None = None
    anchor: tuple[Tensor, Tensor] | None = None

    @property
    def rank(self) -> int:
        return self.lora_A.shape[0]

    def add_to(self, out: Tensor, x: Tensor, base: Tensor, weight: FrozenWeight, strength: float) -> Tensor:
        """``out`` plus this delta of ``x``. x (T, in), base = x W.T without bias (T, out)."""
        update = self._update(x, strength)
        if self.magnitude is None:
            return torch.addmm(out, *update)
        ratio = self.magnitude / self._column_norm(weight)  # (out,)
        scaled = torch.mm(*update).mul(ratio)
        return out + scaled + base * ((ratio - 1) * strength)

    def add_rows_to(self, out: Tensor, tokens: Tensor, strength: float) -> Tensor:
        """Embedding form. out (T, D), tokens (T,)."""
        if self.magnitude is not None:
            raise ValueError("DoRA on embeddings is refused when the adapter is made or read")
        low = self.lora_A.T.index_select(0, tokens) * (self.scaling * strength)  # (T, R)
        out = torch.addmm(out, low, self.lora_B.T)
        if self.anchor is not None:
            held_a, held_b = self.anchor
            out = torch.addmm(out, held_a.T[tokens] * (-self.scaling * strength), held_b.T)
        return out

    def _update(self, x: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """The two factors whose product is the update: (T, R), (R, out)."""
        scale = self.scaling * strength
        if self.anchor is None:
            return (x @ self.lora_A.T) * scale, self.lora_B.T
        held_a, held_b = self.anchor
        low = torch.cat([x @ self.lora_A.T, -(x @ held_a.T)], dim=1) * scale
        return low, torch.cat([self.lora_B, held_b], dim=1).T

    @torch.no_grad()
    def _column_norm(self, weight: FrozenWeight) -> Tensor:
        """Norm of each row of ``W + scaling * B A``, without forming the product. (out,)."""
        expanded = weight.expand()  # (out, in)
        a, b = self.lora_A * self.scaling, self.lora_B
        square = expanded.square().sum(1)
        square += 2 * ((expanded @ a.T) * b).sum(1)
        square += ((b @ (a @ a.T)) * b).sum(1)
        return square.clamp_min(0).sqrt()


class Wearable(Protocol):
    """What a stack needs of an adapter."""

    @property
    def deltas(self) -> Mapping[str, Delta]: ...


Stack = Sequence[tuple[Wearable, float]]
EMPTY: Stack = ()


def deltas_at(stack: Stack, name: str) -> Iterator[tuple[Delta, float]]:
    """The deltas that the stack's adapters have at one module, with their weights."""
    for adapter, strength in stack:
        delta = adapter.deltas.get(name)
        if delta is not None and strength != 0.0:
            yield delta, strength
