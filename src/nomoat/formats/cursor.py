"""Reading a little-endian header of an untrusted file, one checked step at a time."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

import numpy as np

from nomoat.core.errors import BadHeader
from nomoat.formats.weights import Array

_LENGTH: Final = struct.Struct("<Q")


class Cursor:
    """A position in a mapped file that never passes ``end``; every error names the file and the byte."""

    def __init__(self, buffer: mmap.mmap, end: int, path: Path) -> None:
        self.buffer, self.end, self.path = buffer, end, path
        self.at = 0

    def bad(self, message: str) -> BadHeader:
        """Return (not raise) the error for the present position."""
        return BadHeader(f"{message} (byte {self.at})", file=self.path, hint="download or convert the file again")

    def need(self, size: int, what: str) -> None:
        """Raise ``BadHeader`` unless ``size`` more bytes are there."""
        if size > self.end - self.at:
            raise self.bad(f"{what} takes {size} bytes, the header has {self.end - self.at} left")

    def unpack(self, layout: struct.Struct, what: str) -> int | float:
        """Read one scalar of ``layout``."""
        self.need(layout.size, what)
        (value,) = layout.unpack_from(self.buffer, self.at)
        self.at += layout.size
        return value  # type: ignore[no-any-return]

    def u64(self, what: str) -> int:
        """Read an unsigned 64-bit count or offset."""
        return int(self.unpack(_LENGTH, what))

    def string(self, what: str, limit: int) -> str:
        """Read a length and that many bytes of UTF-8."""
        size = self.u64(f"the length of {what}")
        if size > limit:
            raise self.bad(f"{what} claims {size} bytes, more than the {limit} allowed")
        self.need(size, what)
        try:
            text = str(self.buffer[self.at : self.at + size], "utf-8")
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is not UTF-8") from error
        self.at += size
        return text

    def strings(self, n: int, what: str) -> list[str]:
        """Read ``n`` strings. The loop is bare because vocabularies have some 300,000 of them."""
        self.need(n * _LENGTH.size, what)
        found: list[str] = []
        add, unpack, buffer, at, end = found.append, _LENGTH.unpack_from, self.buffer, self.at, self.end
        try:
            for _ in range(n):
                (size,) = unpack(buffer, at)
                start, at = at + 8, at + 8 + size
                if at > end:
                    raise self.bad(f"string {len(found)} of {what} runs past the header")
                add(str(buffer[start:at], "utf-8"))
        except UnicodeDecodeError as error:
            raise self.bad(f"string {len(found)} of {what} is not UTF-8") from error
        except struct.error as error:
            raise self.bad(f"{what} ends after {len(found)} of {n} strings") from error
        self.at = at
        return found

    def numbers(self, n: int, dtype: str, what: str) -> Array:
        """Return ``n`` numbers as a read-only view of the file."""
        size = n * np.dtype(dtype).itemsize
        self.need(size, what)
        view: Array = np.frombuffer(self.buffer, dtype=dtype, count=n, offset=self.at)
        self.at += size
        return view
