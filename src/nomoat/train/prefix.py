"""The frozen layers under an adapter on the top layers: run once for each row, kept on disk for later epochs.

    runs/<id>/prefix/
      0000.safetensors   hidden (tokens, D), rows one after the other; metadata: what it was made of, seconds it took

A row runs alone, so that its bytes depend on nothing but the row and the base: computed again or read back in float32,
a run takes the same course. A part is written whole or not at all; a resumed run keeps the parts that are there.
The layers run on the exact blocks, whatever precision the layers above are trained in.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nomoat.core.errors import FormatError
from nomoat.core.files import atomic_write, disk_errors
from nomoat.core.records import Progress, Record
from nomoat.data.pack import Packed
from nomoat.model.cache import Layout
from nomoat.model.decoder import Below
from nomoat.model.load import Base
from nomoat.model.template import Encoded

Prefix = Callable[[Packed], Below]

FOLDER = "prefix"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
_PART_TOKENS = 16384  # of one file: 60 MB at a width of 896, a minute or two of work that a kill can cost
_TENSOR = "hidden"


def computed(base: Base, layer: int) -> Prefix:
    """What enters ``layer``, computed at every use."""

    def prefix(piece: Packed) -> Below:
        rows = [_row(base, tokens, layer) for tokens in torch.split(piece.tokens, piece.lengths)]
        return Below(layer, torch.cat(rows))

    return prefix


def stand_in(base: Base, layer: int) -> Prefix:
    """Tensors of the right shape and size at the price of reading them: for measuring the layers above."""
    return lambda piece: Below(layer, base.decoder.entering(piece.tokens, Layout(piece.lengths), 0))


def seconds_per_token(base: Base, layer: int, piece: Packed) -> float:
    """Time that the frozen layers take for a token of rows like those of ``piece``."""
    began = time.perf_counter()
    computed(base, layer)(piece)
    return (time.perf_counter() - began) / len(piece.tokens)


def cached_tokens(rows: Sequence[Encoded]) -> int:
    """Tokens that the cache of some rows has a place for: equal rows share one."""
    return sum(len(row.ids) for row in _distinct(rows))


def row_bytes(width: int, kind: str) -> int:
    """What a token takes on disk."""
    return width * DTYPES[kind].itemsize


def drop_cache(run_folder: Path) -> None:
    """Delete the cache of a run, if there is one."""
    with disk_errors(run_folder):
        if (run_folder / FOLDER).exists():
            shutil.rmtree(run_folder / FOLDER)


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """A file of the cache: its rows, and a hash of all that its content follows from."""

    path: Path
    rows: list[Encoded]
    key: str


class PrefixCache:
    """What enters ``layer`` for every row of a run, in the run's folder. Call it like any ``Prefix`` once filled."""

    def __init__(self, run_folder: Path, base: Base, layer: int, kind: str, rows: Sequence[Encoded]) -> None:
        self._base, self._layer, self._dtype = base, layer, DTYPES[kind]
        self._parts = _parts(run_folder / FOLDER, f"{base.fingerprint.exact} {layer} {kind}", _distinct(rows))
        self._places: dict[bytes, tuple[int, int]] = {}
        self._slices: list[Any] = []
        self.seconds = 0.0

    def fill(self) -> Generator[Record]:
        """Compute what is not there yet, and open all of it; ``seconds`` then says what it took, earlier sessions too.

        Raises ``StorageError`` where the disk does not take it.
        """
        total, done = sum(len(part.rows) for part in self._parts), 0
        for number, part in enumerate(self._parts):
            if not _is_whole(part):
                yield from self._compute(part, done, total)
            done += len(part.rows)
            file = _open(part.path)
            self._slices.append(file.get_slice(_TENSOR))
            self.seconds += float(file.metadata()["seconds"])
            start = 0
            for row in part.rows:
                self._places[_key_of(row.ids)] = (number, start)
                start += len(row.ids)

    def _compute(self, part: _Part, done: int, total: int) -> Generator[Record]:
        began, hidden = time.perf_counter(), list[Tensor]()
        for row in part.rows:
            hidden.append(_row(self._base, torch.tensor(row.ids), self._layer).to(self._dtype))
            yield Progress("running the frozen layers once", done + len(hidden), total, "rows")
        metadata = {"key": part.key, "seconds": f"{time.perf_counter() - began:.3f}"}
        atomic_write(part.path, safetensors.torch.save({_TENSOR: torch.cat(hidden)}, metadata))

    def __call__(self, piece: Packed) -> Below:
        rows = []
        for tokens in torch.split(piece.tokens, piece.lengths):
            part, start = self._places[_key_of(tokens.tolist())]
            rows.append(self._slices[part][start : start + len(tokens)].float())
        return Below(self._layer, torch.cat(rows))


def _row(base: Base, tokens: Tensor, layer: int) -> Tensor:
    return base.decoder.entering(tokens, Layout([len(tokens)]), layer)


def _key_of(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array.array("q", ids).tobytes(), digest_size=16).digest()


def _distinct(rows: Sequence[Encoded]) -> list[Encoded]:
    """Rows of the same ids need one place only."""
    return list({_key_of(row.ids): row for row in rows}.values())


def _parts(folder: Path, made_of: str, rows: Sequence[Encoded]) -> list[_Part]:
    groups: list[list[Encoded]] = []
    room = 0
    for row in rows:
        if room < len(row.ids):
            groups.append([])
            room = max(_PART_TOKENS, len(row.ids))
        groups[-1].append(row)
        room -= len(row.ids)
    parts = []
    for number, group in enumerate(groups):
        digest = hashlib.sha256(made_of.encode())
        for row in group:
            digest.update(_key_of(row.ids))
        parts.append(_Part(folder / f"{number:04}.safetensors", group, digest.hexdigest()))
    return parts


def _is_whole(part: _Part) -> bool:
    if not part.path.exists():
        return False
    try:
        return bool((_open(part.path).metadata() or {}).get("key") == part.key)
    except FormatError:
        return False


def _open(path: Path) -> Any:
    """A mapped file: only what is sliced is read."""
    try:
        return safetensors.safe_open(path, framework="pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise FormatError(f"not a whole part of the cache: {error}", file=path) from error
