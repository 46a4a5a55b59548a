"""The command line run in this process, with streams that tests can read."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.main import main


class Terminal(io.StringIO):
    """A stream that a person sits at."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


def nomoat(*argv: str, stdin: str = "", person: bool = False) -> Ran:
    """Run ``nomoat ARGV``; ``person``: all three streams are a terminal."""
    stream = Terminal if person else io.StringIO
    out, err = stream(), stream()
    code = main(argv, Environment(stdin=stream(stdin), stdout=out, stderr=err))
    return Ran(code, out.getvalue(), err.getvalue())
