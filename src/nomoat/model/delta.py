"""What one adapter adds to one layer, and the stack of adapters a forward pass wears.

LoRA: Hu et al. 2021 (arXiv 2106.09685) section 4.1; rsLoRA's scale: Kalajdzievski 2023; DoRA: Liu et al. 2024
(arXiv 2402.09353) section 4, in PEFT's form (the norm is a constant in backward, section 4.3).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from nomoat.model.frozen import FrozenWeight
from nomoat.model.parts import Pair


@dataclasses.dataclass(slots=True)
class Delta:
    """``scaling * lora_B @ lora_A`` on one layer.

    Shapes: ``lora_A`` (R, in), ``lora_B`` (out, R), ``magnitude`` (out,) for DoRA. ``anchor`` is a frozen pair
    subtracted from it (PiSSA starts away from zero on a base that must not change). ``bias`` (out,) is added as it
    is, without the scaling. On an embedding ``in`` is the vocabulary, and there is no bias.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scaling: float
    magnitude: nn.Parameter | None = None
    anchor: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.lora_A.shape[0]

    def add_to(self, out: Tensor, x: Tensor, base: Tensor, weight: FrozenWeight, strength: float) -> Tensor:
        """``out`` plus this delta of ``x``. x (T, in), base = x W.T without bias (T, out)."""
        if self.bias is not None:
            out = out + self.bias * strength
        update = self._update(x, strength)
        if self.magnitude is None:
            return torch.addmm(out, *update)
        ratio = self.magnitude / self.column_norm(weight)  # (out,)
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
    def column_norm(self, weight: FrozenWeight) -> Tensor:
        """Norm of each row of ``W + scaling * B A``, the anchor taken off, without forming the product. (out,)."""
        expanded = weight.expand()  # (out, in)
        held_a, held_b = self.anchor if self.anchor is not None else (self.lora_A[:0], self.lora_B[:, :0])
        a, b = torch.cat([self.lora_A, held_a]) * self.scaling, torch.cat([self.lora_B, -held_b], dim=1)
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


@dataclasses.dataclass(frozen=True)
class MixedStack:
    """A stack a run of flat rows: the first ``lengths[0]`` rows wear ``stacks[0]``, the next ``lengths[1]`` the next.

    Every row gets what it gets in a batch of its own. Neighbouring runs of one stack are computed as one run.
    """

    stacks: Sequence[Stack]
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.stacks) != len(self.lengths) or any(length < 0 for length in self.lengths):
            raise ValueError("a mixed stack needs one length, 0 or more, for each of its stacks")

    @functools.cached_property
    def runs(self) -> list[tuple[Stack, slice]]:
        """The stacks with the rows that wear them: no run is empty, no neighbours are equal."""
        found: list[tuple[Stack, slice]] = []
        start = 0
        for stack, length in zip(self.stacks, self.lengths):
            rows = slice(start, start + length)
            start = rows.stop
            if found and stack_key(found[-1][0]) == stack_key(stack):
                found[-1] = (stack, slice(found[-1][1].start, rows.stop))
            elif length:
                found.append((stack, rows))
        return found

    def take(self, rows: Tensor) -> MixedStack:
        """What some of the rows wear; ``rows`` (n,) are their numbers, ascending."""
        ends = torch.tensor(self.lengths).cumsum(0)
        counts = torch.searchsorted(rows, ends.to(rows.device)).diff(prepend=torch.zeros(1, dtype=torch.long))
        return MixedStack(self.stacks, counts.tolist())


AnyStack = Stack | MixedStack


def stack_key(stack: Stack) -> Hashable:
    """Equal for stacks of the same adapter objects at the same weights."""
    return tuple((id(adapter), weight) for adapter, weight in stack)


def deltas_at(stack: AnyStack, name: str) -> Iterator[tuple[Delta, float]]:
    """The deltas that the adapters of a stack, or of all its runs, have at one module, with their weights."""
    if isinstance(stack, MixedStack):
        for one in stack.stacks:
            yield from deltas_at(one, name)
        return
    for adapter, strength in stack:
        delta = adapter.deltas.get(name)
        if delta is not None and strength != 0.0:
            yield delta, strength


def add_deltas(out: Tensor, x: Tensor, base: Tensor, weight: FrozenWeight, stack: AnyStack, name: str) -> Tensor:
    """``out`` (T, out) plus what a stack adds at layer ``name``. x (T, in), base = x W.T without bias (T, out)."""
    if not isinstance(stack, MixedStack):
        for delta, strength in deltas_at(stack, name):
            out = delta.add_to(out, x, base, weight, strength)
        return out
    if not any(True for _ in deltas_at(stack, name)):
        return out
    return torch.cat([add_deltas(out[at], x[at], base[at], weight, own, name) for own, at in stack.runs])


def add_rows(out: Tensor, tokens: Tensor, stack: AnyStack, name: str) -> Tensor:
    """``out`` (T, D) plus what a stack adds at embedding ``name`` for tokens (T,)."""
    if not isinstance(stack, MixedStack):
        for delta, strength in deltas_at(stack, name):
            out = delta.add_rows_to(out, tokens, strength)
        return out
    if not any(True for _ in deltas_at(stack, name)):
        return out
    return torch.cat([add_rows(out[at], tokens[at], own, name) for own, at in stack.runs])


def low_rank_pairs(stack: AnyStack, name: str) -> tuple[Pair, ...] | None:
    """Every update at one module as a pair of factors, for the bias of ``with_biases``.

    ``None`` where one is more than that: a DoRA, a bias of some rows only, or one that learns.
    """
    mixed = isinstance(stack, MixedStack)
    runs = stack.runs if isinstance(stack, MixedStack) else [(stack, slice(None))]
    pairs: list[Pair] = []
    for own, rows in runs:
        for delta, strength in deltas_at(own, name):
            if delta.magnitude is not None:
                return None
            if delta.bias is not None and (mixed or delta.bias.requires_grad):
                return None
            scale = delta.scaling * strength
            pairs.append(Pair(delta.lora_A, delta.lora_B, scale, rows))
            if delta.anchor is not None:
                pairs.append(Pair(*delta.anchor, -scale, rows))
    return tuple(pairs)


def with_biases(bias: Tensor | None, stack: AnyStack, name: str) -> Tensor | None:
    """The base's bias at one module with those that the stack's adapters add, where all rows wear the same. (out,)."""
    for delta, strength in deltas_at(stack, name):
        if delta.bias is not None:
            bias = delta.bias * strength if bias is None else bias + delta.bias * strength
    return bias
