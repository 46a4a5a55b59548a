"""What an evening asks for."""

from __future__ import annotations

import dataclasses

from nomoat.core.options import option
from nomoat.train.options import PRECISIONS

BUILTIN_BASE = "smollm2-135m-instruct"


@dataclasses.dataclass(frozen=True, slots=True)
class EveningOptions:
    """The few things an evening asks for; every other setting of a tune keeps its default or fits the time."""

    rows: str = option("", "your examples: a file, a folder, or a data set's name; the built-in example if empty")
    base: str = option(
        BUILTIN_BASE, "the base: a name of the catalogue, a GGUF file or a Hugging Face folder", metavar="BASE"
    )
    name: str = option("", "name of the adapter; made from the rows' name if not given", metavar="NAME")
    minutes: float | None = option(None, "be done in this time")
    finish_by: str | None = option(None, "be done at this time of day", metavar="HH:MM")
    epochs: float = option(1.0, "passes over the rows, time permitting")
    rank: int = option(16, "rank of the adapter")
    lr: float = option(5e-4, "peak learning rate")
    rehearse: int = option(
        -1, "mix in this many built-in general rows, against forgetting; -1: a tenth as many as there are rows"
    )
    memory: str | None = option(None, "keep the process under this much memory", metavar="4G")
    precision: str = option("auto", "arithmetic of the frozen matrices in training", choices=PRECISIONS)
    threads: int = option(0, "processor threads; 0: all cores")
    check: str = option("auto", "how answers are checked; see nomoat judge --help", metavar="CHECK")
    limit: int = option(0, "judge at most this many held-out rows; 0: all", metavar="N")
    forgetting: bool = option(True, "also measure what was forgotten")
    seed: int = option(0, "order of the rows, start of the adapter, the bootstrap")
    replace: bool = option(False, "replace an adapter of that name")
