"""Predicted against actual time and memory of eight different tunes, as a Markdown table.

    python bench/predict.py                    all eight, about half an hour on two cores
    python bench/predict.py --only 1 4

Each tune is a fresh ``nomoat tune --json`` in a home of its own. The interval is meant to hold eight times in ten.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
sys.path.insert(0, str(HERE.parent / "tests"))

import models  # noqa: E402

BUILTIN = SOURCE / "nomoat" / "data" / "builtin" / "text-to-sql"


@dataclasses.dataclass(frozen=True)
class Tune:
    """One line of the table. ``joined``: that many rows are written as one long text."""

    model: str
    rows: int
    flags: tuple[str, ...]
    joined: int = 0

    @property
    def words(self) -> str:
        kind = f"{self.rows} texts of {self.joined} rows" if self.joined else f"{self.rows} rows"
        return f"{self.model}, {kind}, {' '.join(self.flags)}"


TUNES = (
    Tune("smollm2", 300, ("--rank", "16")),
    Tune("smollm2", 120, ("--rank", "4", "--epochs", "2.5")),
    Tune("smollm2", 200, ("--rank", "64", "--batch-size", "4")),
    Tune("smollm2", 40, ("--rank", "16", "--max-seq-len", "512"), joined=12),
    Tune("smollm2", 150, ("--rank", "8", "--use-dora", "--batch-size", "16", "--pack-tokens", "1024")),
    Tune("gemma3", 150, ("--rank", "16", "--eval-rows", "16")),
    Tune("gemma3", 30, ("--rank", "32", "--max-seq-len", "768", "--batch-size", "2"), joined=12),
    Tune("qwen05", 80, ("--rank", "16", "--target-modules", "q_proj,v_proj", "--eval-rows", "16")),
)


def write_rows(tune: Tune, target: Path) -> None:
    """The rows of a tune; ``data add`` holds some of them out."""
    lines = (BUILTIN / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if tune.joined:
        texts = [f"{row['prompt']}\nA: {row['completion']}" for row in rows]
        groups = [texts[i : i + tune.joined] for i in range(0, len(texts), tune.joined)]
        rows = [{"text": "\n\n".join(group)} for group in groups]
    with target.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows[: tune.rows])


def run(tune: Tune, threads: int) -> dict[str, Any]:
    """The result that the tune ends with."""
    with tempfile.TemporaryDirectory() as home:
        rows = Path(home) / "rows.jsonl"
        write_rows(tune, rows)
        flags = ["--name", "bench", "--threads", str(threads), "--json", *tune.flags]
        command = [sys.executable, "-m", "nomoat", "tune", str(rows), "--base", str(models.path(tune.model)), *flags]
        environment = dict(os.environ, NOMOAT_HOME=home, PYTHONPATH=str(SOURCE), HF_HUB_OFFLINE="1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        raise SystemExit(f"{tune.words} failed: {records[-1:]}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = records[-1]["result"]
    return result


def line(number: int, tune: Tune, result: dict[str, Any]) -> tuple[str, bool]:
    """One line of the table, and whether the time fell inside the interval."""
    predicted, seconds = result["predicted"], result["seconds"]
    inside = predicted["low_s"] <= seconds <= predicted["high_s"]
    cells = (
        f"{number}",
        tune.words,
        f"{predicted['seconds']:.0f} ({predicted['low_s']:.0f}-{predicted['high_s']:.0f})",
        f"{seconds:.0f}",
        "yes" if inside else "no",
        f"{predicted['peak_bytes'] / 1e9:.2f}",
        f"{result['peak_bytes'] / 1e9:.2f}",
    )
    return "| " + " | ".join(cells) + " |", inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the tunes to run, from 1")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    numbers = args.only or range(1, len(TUNES) + 1)
    print("| | tune | predicted s | actual s | inside | predicted GB | actual GB |\n|---|---|---|---|---|---|---|")
    hits = 0
    for number in numbers:
        text, inside = line(number, TUNES[number - 1], run(TUNES[number - 1], args.threads))
        hits += inside
        print(text, flush=True)
    print(f"\n{hits} of {len(numbers)} inside their 80 % interval")


if __name__ == "__main__":
    main()
