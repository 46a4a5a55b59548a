"""Distillation: rows with what a teacher thought at each learned token, and the loss of a piece against it.

    data/<name>/teacher.safetensors
      keys      (rows, 16) uint8      hash of a row's ids and of what of it is learned
      starts    (rows + 1,) int64     where its tokens begin in the next two
      ids       (tokens, K) int32     the teacher's likeliest tokens
      logprobs  (tokens, K) float16   in nats

Teacher and student need one tokenizer. The loss is the divergence of ``kernels.divergence``, at temperature 1.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nomoat.core.amounts import counted
from nomoat.core.errors import DataError, FormatError, NotFound
from nomoat.core.files import atomic_write
from nomoat.core.records import Note, Record
from nomoat.data.encode import EncodedSet
from nomoat.data.pack import Packed, unpack
from nomoat.kernels.divergence import Target
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.divergence import next_token_divergences
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.prefix import Prefix

TEACHER_FILE = "teacher.safetensors"
Targets = Callable[[Packed], Target]
_NAMES = ("keys", "starts", "ids", "logprobs")


def write_targets(path: Path, rows: Sequence[Encoded], targets: Iterable[Target]) -> None:
    """Write what a teacher thought of each row; equal rows are written once."""
    found = {_key_of(row): target for row, target in zip(rows, targets, strict=True)}
    counts = torch.tensor([0, *(len(target.ids) for target in found.values())])
    tensors = {
        "keys": torch.tensor([list(key) for key in found], dtype=torch.uint8),
        "starts": counts.cumsum(0),
        "ids": torch.cat([target.ids for target in found.values()]).int(),
        "logprobs": torch.cat([target.logprobs for target in found.values()]).half(),
    }
    atomic_write(path, safetensors.torch.save(tensors))


class Teacher:
    """What the teacher thought, opened: called with a piece of whole rows it gives the target of each learned token.

    Raises ``NotFound`` where a data set has none, ``FormatError`` where the file is not what it should be.
    """

    def __init__(self, folder: Path, vocab_size: int) -> None:
        path = folder / TEACHER_FILE
        tensors = _read(path)
        self._starts, self._ids, self._logprobs = (tensors[name] for name in _NAMES[1:])
        self._places = {bytes(key): place for place, key in enumerate(tensors["keys"].tolist())}
        if len(self._ids) and not 0 <= int(self._ids.min()) <= int(self._ids.max()) < vocab_size:
            raise FormatError(f"names tokens outside the vocabulary of {vocab_size:,}", file=path)

    def knows(self, row: Encoded) -> bool:
        """Whether the teacher has seen this row."""
        return _key_of(row) in self._places

    def __call__(self, piece: Packed) -> Target:
        spans = [self._span(row) for row in unpack(piece)]
        ids = torch.cat([self._ids[span] for span in spans])
        return Target(ids.long(), torch.cat([self._logprobs[span] for span in spans]).float())

    def _span(self, row: Encoded) -> slice:
        place = self._places[_key_of(row)]
        return slice(int(self._starts[place]), int(self._starts[place + 1]))

    def stand_in(self, piece: Packed) -> Target:
        """A target of the right shape for any piece: for measuring what a step costs."""
        k = self._ids.shape[1]
        places = torch.arange(k).expand(piece.learned, k)
        return Target(places, torch.full((piece.learned, k), -float(k)))


def taught(
    rows: EncodedSet, held_out: list[Encoded], teacher: Teacher, folder: Path
) -> Generator[Record, None, tuple[EncodedSet, list[Encoded]]]:
    """The rows that the teacher has seen; others are said. Raises ``DataError`` where there is none."""
    kept = [(row, source) for row, source in zip(rows.rows, rows.sources) if teacher.knows(row)]
    if not kept:
        raise DataError(
            "the teacher has seen none of these rows as this base reads them",
            file=folder / TEACHER_FILE,
            hint="teacher and student need one tokenizer; leave --distil out",
        )
    if len(kept) < len(rows.rows):
        yield Note(f"left out {counted(len(rows.rows) - len(kept), 'row')} that the teacher has not seen", warning=True)
    seen = dataclasses.replace(rows, rows=[row for row, _ in kept], sources=[source for _, source in kept])
    return seen, [row for row in held_out if teacher.knows(row)]


def distil_loss(base: Base, stack: Stack, targets: Targets, prefix: Prefix | None = None) -> Callable[[Packed], Tensor]:
    """The summed divergence of a piece, differentiable in the stack's adapters."""

    def loss(piece: Packed) -> Tensor:
        layout, below = Layout(piece.lengths), prefix(piece) if prefix is not None else None
        target = targets(piece)
        return next_token_divergences(base.decoder, piece.tokens, layout, piece.loss_mask, target, stack, below).sum()

    return loss


def _key_of(row: Encoded) -> bytes:
    digest = hashlib.blake2b(array.array("q", row.ids).tobytes(), digest_size=16)
    digest.update(bytes(row.loss_mask))
    return digest.digest()


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise NotFound(
            f"{path.parent.name} holds rows without a teacher's probabilities",
            hint="nomoat move writes them where both models have one tokenizer; leave --distil out otherwise",
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            held: Any = file
            tensors = {name: held.get_tensor(name) for name in _NAMES}
    except (OSError, safetensors.SafetensorError) as error:
        raise FormatError(f"not a teacher's probabilities: {error}", file=path) from error
    _check(tensors, path)
    return tensors


def _check(tensors: dict[str, Tensor], path: Path) -> None:
    keys, starts, ids, logprobs = (tensors[name] for name in _NAMES)
    kinds = (torch.uint8, torch.int64, torch.int32, torch.float16)
    whole = (
        tuple(tensor.dtype for tensor in (keys, starts, ids, logprobs)) == kinds
        and (keys.ndim, starts.ndim, ids.ndim) == (2, 1, 2)
        and ids.shape == logprobs.shape
        and ids.shape[1] > 0
        and keys.shape == (len(starts) - 1, 16)
        and int(starts[0]) == 0
        and int(starts[-1]) == len(ids)
        and bool((starts.diff() >= 0).all())
        and bool((logprobs <= 0).all())
    )
    if not whole:
        raise FormatError("its tensors do not fit together", file=path)
