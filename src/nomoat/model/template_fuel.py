"""A budget of time and size that a running template uses up."""

from __future__ import annotations

import time
from typing import Any

from jinja2.runtime import Undefined

BUDGET = 1 << 26  # characters and values made in one rendering, all together
_WALK_STEP = 1024


class Overrun(Exception):
    """A limit was passed; the message goes on from "the chat template"."""


class Fuel:
    """``max_chars``: the longest text; ``seconds``: of this thread's processor time.

    Not of the clock on the wall, which goes on while a laptop sleeps.
    """

    def __init__(self, max_chars: int, seconds: float) -> None:
        self._left = BUDGET
        self._max_chars = max_chars
        self._ends = time.thread_time() + seconds
        self._look_again = time.monotonic() + seconds

    def spend(self, amount: int) -> None:
        """Raise ``Overrun`` when time or budget is used up."""
        self._left -= amount
        if self._left < 0:
            raise Overrun(f"makes more than {BUDGET} characters and values on its way")
        if time.monotonic() > self._look_again:
            self._check_time()

    def _check_time(self) -> None:
        """Processor time costs a system call to ask for, and cannot be up before the wall clock's."""
        left = self._ends - time.thread_time()
        if left <= 0:
            raise Overrun("takes too long")
        self._look_again = time.monotonic() + left

    def weighed(self, value: Any) -> Any:
        """Return ``value`` after paying for its size, written out in full: shared parts count each time.

        Otherwise ten lists of ten references to ten lists ... would cost nothing until they are printed.
        """
        if isinstance(value, str):
            self.check_length(len(value))
            self.spend(len(value))
        elif isinstance(value, (list, tuple, dict)):
            self._walk(value)
        return value

    def _walk(self, value: Any) -> None:
        stack, size, paid, chars = [value], 0, 0, 0
        while stack:
            item = stack.pop()
            size += 1
            if isinstance(item, str):
                chars += len(item)
            elif isinstance(item, dict):
                stack.extend(item.keys())
                stack.extend(item.values())
            elif isinstance(item, (list, tuple)):
                stack.extend(item)
            if size + chars - paid > _WALK_STEP:
                self.spend(size + chars - paid)
                paid = size + chars
                self.check_length(paid)
        self.spend(size + chars - paid)

    def text(self, value: Any) -> str:
        """``value`` as a template prints it. Raises ``Overrun`` for what has no text."""
        if isinstance(value, str):
            return value
        if value is None or isinstance(value, (bool, int, float, Undefined)):
            return str(value)
        if isinstance(value, (list, tuple, dict)):
            return str(self.weighed(value))
        raise Overrun(f"prints something that is no text: {type(value).__name__}")

    def join(self, glue: str, parts: list[str]) -> str:
        """``glue.join(parts)``, paid for before it is made."""
        size = sum(map(len, parts)) + len(glue) * max(0, len(parts) - 1)
        self.check_length(size)
        self.spend(size + len(parts))
        return glue.join(parts)

    def check_length(self, size: int) -> None:
        """Raise ``Overrun`` for a text longer than any may be."""
        if size > self._max_chars:
            raise Overrun(f"makes a text of more than {self._max_chars} characters")
