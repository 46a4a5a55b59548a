"""Which adapters a sweep trains: every combination of the values given for some options of a tune."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

from nomoat.core.errors import UsageError
from nomoat.core.options import option, parse_values
from nomoat.train.options import TuneOptions, check

# Options that may differ between adapters which learn side by side on one base.
SWEPT = (
    "data", "lr", "rank", "alpha", "seed", "lora_plus_ratio", "schedule", "warmup", "weight_decay", "clip", "epochs",
    "max_steps", "batch_size", "init", "use_rslora", "use_dora",
)  # fmt: skip
MOST = 64
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True, slots=True)
class SweepOptions:
    """Several adapters at once on one base in memory."""

    sweep: str = option(
        "",
        'train one adapter for each value: lr=1e-4,3e-4,1e-3, data=anna,ben, or "lr=1e-4,3e-4 rank=8,16" for every '
        "combination",
        metavar="KEY=A,B",
    )
    keep: str = option("best", "which adapters of a sweep go into the store", choices=("best", "all"))


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One adapter of a sweep. ``label`` says what is its own: ``lr3e-4-rank8``."""

    label: str
    options: TuneOptions


def members(options: TuneOptions, asked: SweepOptions) -> list[Member]:
    """The adapters to train, named ``<name>-<label>``. Raises ``UsageError`` on what cannot be swept."""
    grid = _grid(asked.sweep)
    count = 1
    for values in grid.values():
        count *= len(values)
    if not 2 <= count <= MOST:
        raise UsageError(f"--sweep {asked.sweep!r} makes {count} adapters", hint=f"give 2 to {MOST} in all")
    if options.on:
        raise UsageError("a sweep learns on the bare base", hint="leave out --sweep, or merge the stack: nomoat merge")
    if options.distil:
        raise UsageError("a sweep learns from words, not from a teacher's probabilities", hint="leave out --distil")
    if options.method != "sft":
        raise UsageError("a sweep learns answers, not rewards", hint="leave out --method, or --sweep")
    if options.minutes is not None or options.finish_by is not None:
        raise UsageError("a sweep has no --minutes or --finish-by", hint="give --max-steps; --dry-run tells the time")
    if "data" in grid and asked.keep == "best":
        raise UsageError("adapters of different data cannot be compared by their loss", hint="--keep all")
    if asked.keep == "best" and not options.eval_rows:
        raise UsageError(
            "without held-out rows there is no best adapter", hint="--keep all, or leave out --eval-rows 0"
        )
    found = [_member(options, dict(zip(grid, values))) for values in itertools.product(*grid.values())]
    if len({member.label for member in found}) < len(found):
        raise UsageError(f"--sweep {asked.sweep!r} names the same value twice")
    return found


def _grid(text: str) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for word in text.split():
        key, equals, values = word.partition("=")
        name = key.replace("-", "_")
        if not equals or name not in SWEPT:
            raise UsageError(f"--sweep cannot vary {key!r}", hint="write KEY=A,B with one of: " + ", ".join(SWEPT))
        if name in grid:
            raise UsageError(f"--sweep names {key!r} twice")
        grid[name] = [value.strip() for value in values.split(",") if value.strip()]
    return grid


def _member(options: TuneOptions, values: dict[str, str]) -> Member:
    own = parse_values(TuneOptions, {**dataclasses.asdict(options), **values}, where="--sweep")
    words = (Path(value).stem if key == "data" else f"{key}{value}" for key, value in values.items())
    label = "-".join(_ODD.sub("-", word.replace("_", "-")).strip("-.") for word in words)
    own = dataclasses.replace(own, name=f"{options.name}-{label}" if options.name else "")
    check(own)
    return Member(label, own)
