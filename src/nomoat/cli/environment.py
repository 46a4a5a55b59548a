"""The world a command runs in, as an object: streams, terminal or not, the store. Tests swap it."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO, cast

from nomoat.core.errors import StorageError
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
        self.stdin = stdin or sys.stdin or _nowhere("r")  # a stream that was closed before Python began is None
        self.stdout = stdout or sys.stdout or _nowhere("w")
        self.stderr = stderr or sys.stderr or _nowhere("w")

    @property
    def talks_to_a_person(self) -> bool:
        """Whether progress bars and colour make sense."""
        return self.stderr.isatty()

    def print(self, text: str, *, end: str = "\n") -> None:
        """Write data to stdout at once."""
        _write(self.stdout, text + end)

    def say(self, text: str, *, end: str = "\n") -> None:
        """Write talk to stderr at once."""
        _write(self.stderr, text + end)

    def let_go(self) -> None:
        """Call it last: what a stream could not take must not fail once more, and be told, when Python ends."""
        for stream in (self.stdout, self.stderr):
            try:
                stream.flush()
            except OSError:
                with contextlib.suppress(OSError):  # a stream of a test has no descriptor
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _nowhere(mode: str) -> TextIO:
    return cast(TextIO, Path(os.devnull).open(mode, encoding="utf-8"))


def _write(stream: TextIO, text: str) -> None:
    """Raises ``BrokenPipeError`` where nobody reads any more, ``StorageError`` where a file cannot take it."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise StorageError(f"the output cannot be written: {why}", hint="send it where there is room") from error
