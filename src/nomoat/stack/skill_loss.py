"""The loss that coefficients of a stack are learned by, from a few rows of every skill.

What is made small is a smooth maximum over the skills of the share of its own gain that each loses, and a little of the
mean: the worst skill counts most, as in group DRO (Sagawa et al. 2019, arXiv 1911.08731), and none is forgotten. The
lost share of a few rows is taken against what the skill's own adapter makes of these very rows, so that hard rows do
not look like lost skill. Of each skill's rows every fourth is held back, and chooses the step that is kept.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.data.pack import Packed, order, pack
from nomoat.kernels.memory import Pool
from nomoat.kernels.quick import quick_products
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.stack.coefficients import learnable
from nomoat.stack.grid import Grid
from nomoat.train.sft import learned_tokens
from nomoat.train.state import Cursor, HeldOut, StepBatch, Task

HELD_BACK = 4  # every fourth row of a skill
MEAN_SHARE = 0.1  # of the mean over skills, beside the worst
_SHARPNESS = 10.0  # of the smooth maximum
_ROWS = 9  # of all skills together in a step


@dataclasses.dataclass(frozen=True, slots=True)
class Gain:
    """What one skill's rows are measured against.

    ``alone``: each row's loss under the skill's own adapter, summed over its tokens; ``gain``: what that adapter gains
    over the bare base, in nats a token.
    """

    rows: tuple[Encoded, ...]
    alone: tuple[float, ...]
    gain: float


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Rows of all skills in one pack.

    ``skill`` (n,): whose each learned token is; ``alone`` (S,): the loss of each skill's rows here under its own
    adapter, summed; ``unit`` (S,): the loss that would be its whole gain on them.
    """

    packed: Packed
    skill: Tensor
    alone: Tensor
    unit: Tensor


class SkillBatches:
    """Steps of some rows of every skill, in an order drawn anew for each epoch of the skill with most rows."""

    def __init__(self, gains: Sequence[Gain], numbers: Sequence[Sequence[int]], *, pack_tokens: int, seed: int) -> None:
        self._gains, self._numbers, self._seed = gains, numbers, seed
        longest = sum(max(len(gain.rows[n].ids) for n in own) for gain, own in zip(gains, numbers))
        self._each = max(1, min(round(_ROWS / len(gains)), pack_tokens // longest))

    def take(self, cursor: Cursor) -> tuple[StepBatch[Piece], Cursor]:
        """The step at the cursor, and the cursor after it."""
        chosen = []
        for own in self._numbers:
            places = range(cursor.position, cursor.position + self._each)
            chosen.append([self._row(own, place) for place in places])
        piece = piece_of(self._gains, chosen)
        names = tuple(f"{skill}:{n}" for skill, own in enumerate(chosen) for n in own)
        after = Cursor(0, cursor.position + self._each)
        return StepBatch([piece], 1, len(piece.packed.tokens), names), after

    def _row(self, own: Sequence[int], place: int) -> int:
        epoch, position = divmod(place, len(own))
        return own[order(len(own), seed=self._seed, epoch=epoch)[position]]


def piece_of(gains: Sequence[Gain], chosen: Sequence[Sequence[int]]) -> Piece:
    """The rows of those numbers of every skill in one pack."""
    rows = [gain.rows[n] for gain, own in zip(gains, chosen) for n in own]
    counts = [sum(learned_tokens(gain.rows[n]) for n in own) for gain, own in zip(gains, chosen)]
    return Piece(
        packed=pack(rows, sum(len(row.ids) for row in rows))[0],
        skill=torch.arange(len(gains)).repeat_interleave(torch.tensor(counts)),
        alone=torch.tensor([sum(gain.alone[n] for n in own) for gain, own in zip(gains, chosen)]),
        unit=torch.tensor([count * gain.gain for count, gain in zip(counts, gains)]),
    )


def lost_shares(nll: Tensor, piece: Piece) -> Tensor:
    """Share of its own gain that each skill loses, from the losses of the piece's tokens (n,). (S,)."""
    sums = torch.zeros(len(piece.alone)).index_add(0, piece.skill, nll)
    return (sums - piece.alone) / piece.unit


def smooth_cost(lost: Tensor) -> Tensor:
    """The smooth maximum of the lost shares (S,), with a little of their mean."""
    return torch.logsumexp(lost * _SHARPNESS, 0) / _SHARPNESS + MEAN_SHARE * lost.mean()


def coefficient_task(
    base: Base, grid: Grid, values: torch.nn.Parameter, gains: Sequence[Gain], *, pack_tokens: int, seed: int
) -> Task[Piece]:
    """Learning ``values`` (count,) as the loop wants it."""
    fitted = [[n for n in range(len(gain.rows)) if not _is_held_back(n)] for gain in gains]
    held = [[n for n in range(len(gain.rows)) if _is_held_back(n)] for gain in gains]

    def losses(packed: Packed) -> Tensor:
        stack = learnable(grid, values)
        return base.decoder.next_token_losses(packed.tokens, Layout(packed.lengths), packed.loss_mask, stack).nll

    def loss(piece: Piece) -> Tensor:
        return smooth_cost(lost_shares(losses(piece.packed), piece))

    @torch.no_grad()
    def evaluate() -> HeldOut:
        lost = []
        with Pool(), quick_products():
            for gain, own in zip(gains, held):
                pieces = pack([gain.rows[n] for n in own], pack_tokens)
                summed = math.fsum(losses(piece).sum().item() for piece in pieces)
                tokens = sum(piece.learned for piece in pieces)
                lost.append((summed - math.fsum(gain.alone[n] for n in own)) / (tokens * gain.gain))
        return HeldOut(float(smooth_cost(torch.tensor(lost))), sum(map(len, held)))

    batches = SkillBatches(gains, fitted, pack_tokens=pack_tokens, seed=seed)
    return Task({"coefficients": values}, batches, loss, evaluate if all(held) else None)


def _is_held_back(number: int) -> bool:
    """Whether a row of that number only measures."""
    return number % HELD_BACK == HELD_BACK - 1
