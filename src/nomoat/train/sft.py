"""Supervised fine-tuning: which rows make a step, and the loss of a packed piece.

A step is ``batch_size`` rows in the order of a permutation drawn anew for each epoch from the seed, packed without
padding into pieces of at most ``pack_tokens`` tokens. The loss is the mean over all learned tokens of the step, so
that it equals the loss of the same rows in one padded batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nomoat.core.errors import DataError, UsageError
from nomoat.data.pack import Packed, order, pack
from nomoat.engine.names import Worn
from nomoat.kernels.memory import Pool
from nomoat.model.adapters import Adapter
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.cost import Work
from nomoat.train.distil import Targets, distil_loss
from nomoat.train.orthogonal import orthogonality
from nomoat.train.prediction import Outline
from nomoat.train.prefix import Prefix
from nomoat.train.probe import Sample
from nomoat.train.state import Cursor, HeldOut, StepBatch, Task

_OUTLINE_STEPS = 128  # steps whose pieces stand for the run's: enough for the mean of shuffled rows
# Pieces that the probe tries: shares of the run's largest, the first ones bounded in tokens, since they are always run
# and must be quick even where a whole piece takes a minute.
_SAMPLE_SHARES = ((0.12, 128), (0.35, 384), (0.6, None), (1.0, None))


class SftBatches:
    """Steps over encoded rows. ``names`` say where each row stands, for messages.

    Every ``group`` rows, such as the two of a pair, are learned in one piece; ``batch_size`` is a multiple of it.
    """

    def __init__(
        self,
        rows: Sequence[Encoded],
        names: Sequence[str],
        *,
        batch_size: int,
        pack_tokens: int,
        seed: int,
        group: int = 1,
    ) -> None:
        if not rows:
            raise DataError("there is no row to learn from", hint="nomoat data show NAME")
        if batch_size < 1:
            raise UsageError(f"--batch-size cannot be {batch_size}", hint="give 1 or more")
        self.rows, self.names, self.group = rows, names, group
        self.batch_size, self.pack_tokens, self.seed = batch_size, pack_tokens, seed
        self._epoch, self._order = -1, list[int]()

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def order(self, epoch: int) -> list[int]:
        """Row numbers of an epoch in the order they are learned."""
        if epoch != self._epoch:
            firsts = order(len(self.rows) // self.group, seed=self.seed, epoch=epoch)
            self._epoch = epoch
            self._order = [first * self.group + place for first in firsts for place in range(self.group)]
        return self._order

    def used(self, steps: int) -> list[int]:
        """Numbers of the rows that come up in the first ``steps`` steps, ascending."""
        if steps >= self.steps_per_epoch:
            return list(range(len(self.rows)))
        return sorted(self.order(0)[: steps * self.batch_size])

    def take(self, cursor: Cursor) -> tuple[StepBatch[Packed], Cursor]:
        """The step at the cursor, and the cursor after it. The last step of an epoch may be smaller."""
        end = cursor.position + self.batch_size
        numbers = self.order(cursor.epoch)[cursor.position : end]
        pieces = pack([self.rows[number] for number in numbers], self.pack_tokens, group=self.group)
        work = sum((work_of(piece) for piece in pieces), Work())
        after = Cursor(cursor.epoch, end) if end < len(self.rows) else Cursor(cursor.epoch + 1, 0)
        names = tuple(self.names[number] for number in numbers)
        return StepBatch(pieces, work.learned, work.tokens, names), after


def learned_tokens(row: Encoded) -> int:
    """Tokens of a row that carry a loss; its first token has nothing before it to be predicted from."""
    return sum(row.loss_mask[1:])


def work_of(piece: Packed) -> Work:
    """Size of a piece for the cost model."""
    squares = sum(length * length for length in piece.lengths)
    return Work(len(piece.tokens), piece.learned, squares, 1)


def sft_task(
    base: Base,
    adapter: Adapter,
    batches: SftBatches,
    held_out: Sequence[Encoded],
    lora_plus_ratio: float,
    prefix: Prefix | None = None,
    under: Worn = (),
    orthogonal: float = 0.0,
    targets: Targets | None = None,
) -> Task[Packed]:
    """Supervised tuning of ``adapter`` over ``base``, which wears the frozen stack ``under``, as the loop wants it.

    ``orthogonal`` weighs the penalty against learning where that stack listens (``orthogonal.py``). ``targets``: what
    a teacher thought; the loss is then the divergence from it (``distil.py``).
    """
    stack = (*under, (adapter, 1.0))
    pieces = pack(held_out, batches.pack_tokens)

    def word_loss(piece: Packed) -> Tensor:
        layout, below = Layout(piece.lengths), prefix(piece) if prefix is not None else None
        return base.decoder.next_token_losses(piece.tokens, layout, piece.loss_mask, stack, below).nll.sum()

    loss = word_loss if targets is None else distil_loss(base, stack, targets, prefix)

    @torch.no_grad()
    def evaluate() -> HeldOut:
        tokens = sum(work_of(piece).learned for piece in pieces)
        with Pool():
            total = math.fsum(loss(piece).item() for piece in pieces)
        return HeldOut(total / tokens, tokens)

    parameters = adapter.parameters()
    # LoRA+ (Hayou et al. 2024, section 4): B, the factor that starts at zero, learns faster than A.
    scale = {name: lora_plus_ratio for name in parameters if ".lora_B" in name}
    penalty = orthogonality(adapter, under, orthogonal) if under and orthogonal else None
    return Task(parameters, batches, loss, evaluate if pieces else None, scale, penalty)


# -- what the plan needs to know


def outline(batches: SftBatches, held_out: Sequence[Encoded], steps: int, pack_tokens: int) -> Outline:
    """The run's work with pieces of ``pack_tokens``, from its first steps."""
    sampled = min(steps, _OUTLINE_STEPS)
    pieces = _first_pieces(batches, sampled, pack_tokens)
    held = pack(held_out, pack_tokens, group=batches.group)
    return Outline(
        pack_tokens=pack_tokens,
        step=sum((work_of(piece) for piece in pieces), Work()),
        sampled=sampled,
        largest_tokens=max(len(piece.tokens) for piece in (*pieces, *held)),
        longest_row=max(len(row.ids) for row in (*batches.rows, *held_out)),
        held_out=sum((work_of(piece) for piece in held), Work()),
    )


def probe_samples(batches: SftBatches, steps: int) -> list[Sample[Packed]]:
    """The largest of the run's first pieces, and beginnings of it, from small to large."""
    pieces = _first_pieces(batches, min(steps, _OUTLINE_STEPS), batches.pack_tokens)
    largest = max(pieces, key=lambda piece: len(piece.tokens))
    size = len(largest.tokens)
    cuts = {min(size, max(2, round(share * size)), most or size) for share, most in _SAMPLE_SHARES}
    return [Sample(cut, work_of(cut)) for cut in (_beginning(largest, n) for n in sorted(cuts))]


def _first_pieces(batches: SftBatches, steps: int, pack_tokens: int) -> list[Packed]:
    sized = SftBatches(
        batches.rows,
        batches.names,
        batch_size=batches.batch_size,
        pack_tokens=pack_tokens,
        seed=batches.seed,
        group=batches.group,
    )
    pieces: list[Packed] = []
    cursor = Cursor()
    for _ in range(steps):
        step, cursor = sized.take(cursor)
        pieces += step.pieces
    return pieces


def _beginning(piece: Packed, n_tokens: int) -> Packed:
    """The first tokens of a piece, with the same share of learned tokens: good for timing, not for learning."""
    lengths: list[int] = []
    for length in piece.lengths:
        lengths.append(min(length, n_tokens - sum(lengths)))
        if sum(lengths) == n_tokens:
            break
    learned = max(1, round(work_of(piece).learned * n_tokens / len(piece.tokens)))
    mask = torch.zeros(n_tokens, dtype=torch.bool)
    mask[n_tokens - learned :] = True
    return Packed(piece.tokens[:n_tokens], lengths, mask)
