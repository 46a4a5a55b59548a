"""The job that every peer of ``bench/tune.py`` reads: the same ids, masks, order, rank and rate for all."""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Job:
    """``steps`` are lists of row numbers; ``train`` and ``held_out`` rows are ``{"ids", "loss_mask"}``."""

    gguf: str
    hf_folder: str
    adapter_folder: str
    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    steps: list[list[int]]
    start_tensors: str
    rank: int
    alpha: float
    lr: float
    warmup: float
    threads: int
    pack_tokens: int

    @classmethod
    def read(cls) -> Job:
        return cls(**json.loads(Path(sys.argv[1]).read_text()))

    def real_tokens(self, steps: list[list[int]] | None = None) -> int:
        return sum(len(self.train[row]["ids"]) for step in steps or self.steps for row in step)


def report(**values: Any) -> None:
    """One JSON line on stdout, peak resident memory added."""
    values["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps(values), flush=True)
