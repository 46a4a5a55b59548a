"""Memory of large tensors that is used again, step after step.

A training step makes and drops the same large tensors in every layer. glibc's heap seldom gives the hole that an
aligned block leaves to the next block of its size (compare sourceware bug 30723), so the heap of a step grows by its
temporaries, layer after layer; and fresh pages cost as much as filling them, a quarter of a step's time. Inside
``with Pool():`` large tensors of this thread are pieces of mapped memory that go back to the pool when the last tensor
on them is dropped, are joined with idle neighbours, and serve tensors of any other size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import mmap
import sys
import threading
import weakref
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final

import numpy as np
import torch
from torch import Tensor

LEAST_BYTES: Final = 1 << 18  # smaller tensors are torch's own business
_GRAIN: Final = 1 << 14  # bytes; pieces are multiples of it, so that nearly equal ones take each other's places
_LEAST_SEGMENT: Final = 1 << 25  # bytes that are mapped at once; they cost no memory until they are written

_current: ContextVar[Pool | None] = ContextVar("pool", default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """A run of bytes of a mapped segment."""

    segment: mmap.mmap
    start: int
    size: int


class Pool:
    """Mapped memory, handed out in pieces and never given back before the pool is gone.

    What was never handed out costs nothing, so a pool takes as much memory as was in use at once, and some more where
    an idle piece was too small for what was wanted.
    """

    def __init__(self) -> None:
        self._idle: list[_Piece] = []
        self._mapped = 0  # bytes
        self._entered: Token[Pool | None] | None = None

    def __enter__(self) -> Pool:
        self._entered = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered is not None:
            _current.reset(self._entered)
        self._entered = None

    @property
    def idle_bytes(self) -> int:
        """What is mapped and not in use."""
        return sum(piece.size for piece in self._idle)

    @property
    def mapped_bytes(self) -> int:
        return self._mapped

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """An uninitialised float32 tensor; its memory comes back when it and its views are gone."""
        count = math.prod(shape)
        piece = self._take(-(-4 * count // _GRAIN) * _GRAIN)
        array = np.frombuffer(piece.segment, np.float32, count, piece.start)
        weakref.finalize(array, self._give_back, piece).atexit = False
        return torch.from_numpy(array).view(shape)

    def _take(self, size: int) -> _Piece:
        """The smallest idle piece that is large enough, cut to size."""
        fitting = [piece for piece in self._idle if piece.size >= size]
        if not fitting:
            fitting = [self._map(size)]
        found = min(fitting, key=lambda piece: piece.size)
        self._idle.remove(found)
        if found.size > size:
            self._idle.append(_Piece(found.segment, found.start + size, found.size - size))
        return _Piece(found.segment, found.start, size)

    def _map(self, size: int) -> _Piece:
        size = max(size, _LEAST_SEGMENT, self._mapped // 2)  # few segments: pieces of two cannot be joined
        self._mapped += size
        piece = _Piece(_map(size), 0, size)
        self._idle.append(piece)
        return piece

    def _give_back(self, piece: _Piece) -> None:
        for other in [each for each in self._idle if each.segment is piece.segment]:
            if other.start + other.size == piece.start or piece.start + piece.size == other.start:
                self._idle.remove(other)
                piece = _Piece(piece.segment, min(piece.start, other.start), piece.size + other.size)
        self._idle.append(piece)


class _Lasting(threading.local):
    def __init__(self) -> None:
        self.pool = Pool()


_LASTING = _Lasting()


def lasting() -> Pool:
    """This thread's own pool, which stays: for short work that comes again and again, as a server's steps do."""
    return _LASTING.pool


def _map(size: int, *, huge: bool = True) -> mmap.mmap:
    """Mapped memory, ``huge``: in huge pages where the system has them, for fewer faults and fewer look-ups."""
    if sys.platform != "linux":
        return mmap.mmap(-1, size)
    segment = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has none
    with contextlib.suppress(OSError):  # a kernel built without them
        segment.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return segment


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take memory page by page, when they are touched: for tensors that fill up slowly here and there."""
    count = math.prod(shape)
    return torch.frombuffer(_map(max(1, count * dtype.itemsize), huge=False), dtype=dtype, count=count).view(shape)


def empty(*shape: int, like: Tensor | None = None) -> Tensor:
    """An uninitialised float32 tensor, on ``like``'s device; from this thread's pool where it is large."""
    pool = _current.get()
    n_bytes = 4
    for size in shape:
        n_bytes *= size
    if pool is None or n_bytes < LEAST_BYTES or (like is not None and not like.is_cpu):
        return torch.empty(shape, dtype=torch.float32, device=None if like is None else like.device)
    return pool.empty(shape)
