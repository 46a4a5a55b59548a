"""Tokens to text while they come: whole characters only, and nothing that may yet be a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from nomoat.core.errors import UsageError


class TextStream:
    """Collects the bytes of tokens and gives out the text that is certain.

    Bytes that are not UTF-8 become U+FFFD, as ``bytes.decode("utf-8", "replace")`` would do for the whole.
    A stop string may begin and end anywhere inside tokens; it is not part of the text.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise UsageError("a stop string cannot be empty")
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Add a token's bytes; return the text that has become certain, perhaps none.

        When a stop string is complete, ``stopped`` turns true and all from its beginning on is dropped.
        """
        return self._release(self._decoder.decode(data), keep_back=True)

    def finish(self) -> str:
        """The answer has ended: return what was held back."""
        return self._release(self._decoder.decode(b"", final=True), keep_back=False)

    def _release(self, text: str, *, keep_back: bool) -> str:
        if self.stopped:
            return ""
        self._pending += text
        found = [position for stop in self._stop if (position := self._pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            certain = min(found)
        else:
            certain = len(self._pending) - (_held_back(self._pending, self._stop) if keep_back else 0)
        released, self._pending = self._pending[:certain], "" if found else self._pending[certain:]
        return released


def _held_back(text: str, stop: Sequence[str]) -> int:
    """The length of the longest end of ``text`` that begins a stop string."""
    longest = min(len(text), max((len(word) - 1 for word in stop), default=0))
    for length in range(longest, 0, -1):
        if any(word.startswith(text[-length:]) for word in stop):
            return length
    return 0
