"""What every peer of ``bench/serve.py`` understands: one JSON command a line on stdin, one JSON result on stdout.

``{"prompts": [[ids]], "adapters": [[number]], "max_tokens": n}`` -> ``{"seconds", "tokens", "first", "decode"}``: wall
time of all requests together, how many tokens were generated, and, of a single request, seconds to the first token and
tokens a second after it. ``adapters`` are numbers into the folders given at the start; one list a prompt.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Command:
    prompts: list[list[int]]
    adapters: list[list[int]]
    max_tokens: int


def commands() -> Iterator[Command]:
    for line in sys.stdin:
        yield Command(**json.loads(line))


def answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def serve(run: Callable[[Command], dict[str, Any]]) -> None:
    """Answer commands until stdin closes; the first line out says that everything is loaded."""
    answer(ready=True)
    for command in commands():
        answer(**run(command))


def peak_rss_gb(pid: int) -> float:
    """The most resident memory a process ever had (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return int(kilobytes) * 1024 / 1e9
