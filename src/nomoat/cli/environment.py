"""The world a command runs in, as an object: streams, terminal or not, the store. Tests swap it."""

from __future__ import annotations

import sys
from typing import TextIO

from nomoat.core.store import Store


class Environment:
    """Streams and store of one command. ``print`` is for data, ``say`` for talk."""

    def __init__(
        self,
        *,
        store: Store | None = None,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.store = store or Store()
        self.stdin = stdin or sys.stdin
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    @property
    def talks_to_a_person(self) -> bool:
        """Whether progress bars and colour make sense."""
        return self.stderr.isatty()

    def print(self, text: str, *, end: str = "\n") -> None:
        """Write data to stdout at once."""
        self.stdout.write(text + end)
        self.stdout.flush()

    def say(self, text: str, *, end: str = "\n") -> None:
        """Write talk to stderr at once."""
        self.stderr.write(text + end)
        self.stderr.flush()
