"""BPE merges out of SentencePiece scores.

SentencePiece keeps no merges: wherever two neighbours spell a piece they may join, the piece with the best score
first, the leftmost first among equals. Within the letters of one piece that process takes one path only, whatever
stands around it, so each piece has exactly one last merge; those merges, ordered by score, do the same work in the
``tokenizers`` library. Kudo & Richardson 2018; ``llm_tokenizer_spm`` in llama.cpp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nomoat.core.errors import StorageError
from nomoat.core.files import atomic_write

Merge: TypeAlias = tuple[str, str]

_LETTER = -1  # the rank of a single character: there before any merge
_FORMAT = b"nomoat-spm-merges-1"


def merges_from_scores(pieces: Sequence[str], scores: npt.NDArray[Any]) -> list[Merge]:
    """The merges of ``pieces``, first to last. Pieces that no text can produce have none.

    Where a piece ranks above the parts it is made of (no SentencePiece training does that), the path is open; then
    every way to split each piece is a merge, which is the same but for ties.
    """
    order = [i for i in np.argsort(-scores, kind="stable").tolist() if len(pieces[i]) > 1]
    rank = {piece: _LETTER for piece in pieces if len(piece) == 1}
    rank.update((pieces[i], place) for place, i in enumerate(order))
    split: dict[str, Merge] = {}
    for place, i in enumerate(order):
        piece, late = pieces[i], False
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left not in rank or right not in rank:
                continue
            if rank[left] > place or rank[right] > place:
                late = True
                continue
            made = (len(left) == 1 or left in split) and (len(right) == 1 or right in split)
            if made and _stays_apart(left, right, rank, split):
                split[piece] = (left, right)
                break
        if late and piece not in split:
            return _every_split([pieces[i] for i in order], rank)
    return list(split.values())


def _stays_apart(left: str, right: str, rank: dict[str, int], split: dict[str, Merge]) -> bool:
    """Whether the letters of ``left + right`` come to be just these two pieces: no merge crosses the seam before.

    Runs the merges backwards. At the seam stand ``left`` and ``right``; the younger of them is taken apart, and
    what then stood at the seam must not have been a better pair than the one that was joined.
    """
    left_rank, right_rank = rank[left], rank[right]
    while left_rank != _LETTER or right_rank != _LETTER:
        if left_rank > right_rank:
            joined, left = left_rank, split[left][1]
            left_rank = rank[left]
            if rank.get(left + right, joined) < joined:
                return False
        else:
            joined, right = right_rank, split[right][0]
            right_rank = rank[right]
            if rank.get(left + right, joined + 1) <= joined:  # on a tie the leftmost pair, here the seam, wins
                return False
    return True


def _every_split(ordered: list[str], rank: dict[str, int]) -> list[Merge]:
    return [
        (piece[:cut], piece[cut:])
        for piece in ordered
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in rank and piece[cut:] in rank
    ]


def cached_merges(pieces: Sequence[str], scores: npt.NDArray[Any], cache: Path | None) -> list[Merge]:
    """``merges_from_scores``, kept in folder ``cache`` as pairs of piece numbers.

    262,144 pieces take seconds to work out and a tenth of a second to read back. A cache that cannot be read or
    written, or that does not fit, is passed over.
    """
    if cache is None:
        return merges_from_scores(pieces, scores)
    path = cache / f"spm-{_fingerprint(pieces, scores)}.merges"
    kept = _read(path, pieces)
    if kept is not None:
        return kept
    merges = merges_from_scores(pieces, scores)
    number = {piece: i for i, piece in enumerate(pieces)}
    try:
        atomic_write(path, _bytes([(number[left], number[right]) for left, right in merges]))
    except StorageError:
        return merges  # a read-only or full disk costs speed the next time, nothing else
    return merges


def _fingerprint(pieces: Sequence[str], scores: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(_FORMAT)
    digest.update("\0".join(pieces).encode("utf-8", "surrogatepass"))
    digest.update(scores.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def _bytes(pairs: list[tuple[int, int]]) -> bytes:
    table: npt.NDArray[np.int32] = np.array(pairs, dtype="<i4").reshape(-1, 2)
    return hashlib.sha256(table.tobytes()).digest() + table.tobytes()


def _read(path: Path, pieces: Sequence[str]) -> list[Merge] | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[32:]
    if len(body) % 8 or hashlib.sha256(body).digest() != data[:32]:
        return None
    table = np.frombuffer(body, dtype="<i4").reshape(-1, 2)
    if table.size and (table.min() < 0 or table.max() >= len(pieces)):
        return None
    left, right = ([pieces[i] for i in table[:, side].tolist()] for side in (0, 1))
    return list(zip(left, right, strict=True))
