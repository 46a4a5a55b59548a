"""What an adapter adds to one module, as two factors with every scale folded in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nomoat.core.errors import UsageError
from nomoat.model.adapters import Adapter, adaptable
from nomoat.model.decoder import Decoder
from nomoat.model.delta import Delta
from nomoat.model.frozen import FrozenWeight

_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """``lora_B @ lora_A``: float32, ``lora_A`` (R, in), ``lora_B`` (out, R). On an embedding ``in`` is the vocabulary.

    R may be larger than both sizes, and larger than the rank of the product. ``bias`` (out,) is added to the outputs.
    ``rows`` (out,): the multiples of the base's own rows that a DoRA adds as well.
    """

    lora_A: Tensor
    lora_B: Tensor
    bias: Tensor | None = None
    rows: Tensor | None = None

    @property
    def rank(self) -> int:
        """R, the number of columns of B."""
        return self.lora_A.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.lora_B.shape[0], self.lora_A.shape[1]

    def dense(self) -> Tensor:
        """The product, without the bias and the base's rows. (out, in)."""
        return self.lora_B @ self.lora_A

    def scaled(self, weight: float) -> Update:
        """``weight`` times this update."""
        bias, rows = (None if each is None else each * weight for each in (self.bias, self.rows))
        return Update(self.lora_A, self.lora_B * weight, bias, rows)

    def dot(self, other: Update) -> float:
        """Sum over all entries of the product of both products, without forming either."""
        b, a = self.lora_B.double().T @ other.lora_B.double(), self.lora_A.double() @ other.lora_A.double().T
        return float((b * a).sum())

    @property
    def energy(self) -> float:
        """Square of the product's Frobenius norm."""
        return max(self.dot(self), 0.0)


Updates = dict[str, Update]  # by module name


def nothing(out_dim: int, in_dim: int, rank: int = 0) -> Update:
    """The update that adds nothing, of rank 0 or with factors of zeros."""
    return Update(torch.zeros(rank, in_dim), torch.zeros(out_dim, rank))


def concatenated(updates: Sequence[Update]) -> Update:
    """The sum of updates, exactly: their factors side by side. Ranks add up."""
    a, b = torch.cat([each.lora_A for each in updates]), torch.cat([each.lora_B for each in updates], dim=1)
    return Update(a, b, _total([each.bias for each in updates]), _total([each.rows for each in updates]))


def _total(vectors: Sequence[Tensor | None]) -> Tensor | None:
    present = [vector for vector in vectors if vector is not None]
    return torch.stack(present).sum(0) if present else None


def factored(matrix: Tensor) -> Update:
    """A full matrix (out, in) as an update of rank ``min(out, in)``, exactly."""
    out_dim, in_dim = matrix.shape
    if out_dim <= in_dim:
        return Update(matrix, torch.eye(out_dim))
    return Update(torch.eye(in_dim), matrix)


def update_of(adapter: Adapter, module: str, weight: FrozenWeight | None = None) -> Update:
    """What ``adapter`` adds to one of its modules, as factors alone.

    A DoRA needs the base's ``weight``: its update is the difference to it, of full rank. Raises ``UsageError`` for a
    DoRA without.
    """
    delta = adapter.deltas[module]
    if delta.magnitude is None:
        return _low_rank(delta)
    if weight is None:
        raise UsageError(
            f"adapter {adapter.name!r} is a DoRA: what it adds depends on the base's weights",
            hint="open the base with it",
        )
    return dataclasses.replace(factored(_dense(_dora(delta, weight), weight)), bias=delta.bias)


def exact_update_of(adapter: Adapter, module: str, weight: FrozenWeight) -> Update:
    """What ``adapter`` adds to one of its modules, at its own rank: a DoRA's with multiples of the base's rows."""
    delta = adapter.deltas[module]
    return _low_rank(delta) if delta.magnitude is None else _dora(delta, weight)


def exact_updates_of(adapter: Adapter, weights: Mapping[str, FrozenWeight]) -> Updates:
    """Every module's update over the base whose matrices are ``weights``; see ``exact_update_of``."""
    return {module: exact_update_of(adapter, module, weights[module]) for module in adapter.deltas}


def updates_of(adapter: Adapter, decoder: Decoder | None = None) -> Updates:
    """Every module's update; see ``update_of``."""
    weights = adaptable(decoder) if decoder is not None else {}
    return {module: update_of(adapter, module, weights.get(module)) for module in adapter.deltas}


def is_low_rank(adapter: Adapter) -> bool:
    """Whether the adapter's updates are products of its factors, and biases: true but for DoRA."""
    return all(delta.magnitude is None for delta in adapter.deltas.values())


@torch.no_grad()
def _low_rank(delta: Delta) -> Update:
    a, b = delta.lora_A.detach(), delta.lora_B.detach()
    if delta.anchor is not None:  # PiSSA: what the factors began as is subtracted
        held_a, held_b = delta.anchor
        a, b = torch.cat([a, held_a]), torch.cat([b, -held_b], dim=1)
    return Update(a, b * delta.scaling, delta.bias)


@torch.no_grad()
def _dora(delta: Delta, weight: FrozenWeight) -> Update:
    """``r s B A`` and ``r - 1`` of the base's rows, where ``r = magnitude / |W + s B A|``, norms over each row.

    That is ``magnitude * (W + s B A) / |W + s B A| - W``: Liu et al. 2024 (arXiv 2402.09353), equation 5.
    """
    assert delta.magnitude is not None
    ratio = delta.magnitude / delta.column_norm(weight)
    plain = _low_rank(delta)
    return Update(plain.lora_A, plain.lora_B * ratio[:, None], delta.bias, ratio - 1)


@torch.no_grad()
def _dense(update: Update, weight: FrozenWeight) -> Tensor:
    """The product with the multiples of the base's rows. (out, in). In double precision: a small difference."""
    assert update.rows is not None
    parts = []
    for start in range(0, weight.shape[0], _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        base = weight.expand(rows).double() * update.rows[rows, None].double()
        parts.append((base + update.lora_B[rows].double() @ update.lora_A.double()).float())
    return torch.cat(parts)
