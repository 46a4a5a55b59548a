"""Ways to train for less: adapters on the top layers only, several at once, rounded. Each beside the plain way.

    python bench/modes.py top --model smollm2 --layers 4 8 16 --rows 300 --epochs 3
    python bench/modes.py sweep --model smollm2 --adapters 8 --rows 120
    python bench/modes.py rounding --model smollm2 --data alpaca.json gsm8k.jsonl --rows 1000 --epochs 1

``top``: speed, memory and held-out loss of a full run and of runs on the last layers, frozen layers cached. ``sweep``:
time and memory of one sweep against as many single runs one after the other, and how far their held-out losses are
apart. ``rounding``: where whole runs in bfloat16 and int8 end, beside float32 on the same rows. Every run is a fresh
``nomoat tune --json``; --rounds of them, interleaved, medians. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nomoat.train.options import PRECISIONS

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
sys.path.insert(0, str(HERE.parent / "tests"))

import models  # noqa: E402

BUILTIN = SOURCE / "nomoat" / "data" / "builtin" / "text-to-sql" / "train.jsonl"


def first_rows(data: Path, count: int) -> str:
    """The first rows of a JSON list or of JSON lines, as lines."""
    text = data.read_text(encoding="utf-8")
    lines = [json.dumps(row) for row in json.loads(text)] if data.suffix == ".json" else text.splitlines()
    return "\n".join(lines[:count]) + "\n"


def tune(args: argparse.Namespace, *flags: str, data: Path = BUILTIN) -> dict[str, Any]:
    """The result of one tune in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        rows = Path(home) / "rows.jsonl"
        rows.write_text(first_rows(data, args.rows), encoding="utf-8")
        command = [sys.executable, "-m", "nomoat", "tune", str(rows), "--base", str(models.path(args.model)), "--json"]
        shared = ["--name", "bench", "--threads", str(args.threads), "--epochs", str(args.epochs)]
        shared += ["--eval-rows", str(args.eval_rows), "--probe-seconds", "0"]
        if "--precision" not in flags:
            shared += ["--precision", args.precision]
        if args.steps:
            shared += ["--max-steps", str(args.steps)]
        environment = dict(os.environ, NOMOAT_HOME=home, PYTHONPATH=str(SOURCE), HF_HUB_OFFLINE="1")
        done = subprocess.run([*command, *shared, *flags], capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(flags)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["result"]
    return result


def top(args: argparse.Namespace) -> None:
    """A full run beside runs on the last layers."""
    ways: dict[str, tuple[str, ...]] = {"all layers": ()}
    for layers in args.layers:
        ways[f"last {layers}, cache in float32"] = ("--top-layers", str(layers))
        ways[f"last {layers}, cache in bf16"] = ("--top-layers", str(layers), "--prefix-cache", "bf16")
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, flags in ways.items():
            runs[way].append(tune(args, *flags))
            print(f"{way}: {runs[way][-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    print(
        "| adapters on | seconds in all | of them frozen layers, once | tokens/s after that | peak GB | held-out loss |"
    )
    print("|---|---|---|---|---|---|")
    for way, found in runs.items():
        names = ("seconds", "prefix_seconds", "tokens_per_second", "peak_bytes", "held_out_loss_after")
        whole, once, rate, peak, loss = (statistics.median(run[name] for run in found) for name in names)
        print(f"| {way} | {whole:.0f} | {once:.0f} | {rate:.0f} | {peak / 1e9:.2f} | {loss:.4f} |")


def sweep(args: argparse.Namespace) -> None:
    """One sweep over learning rates against single runs."""
    rates = [f"{1e-4 * 1.6**n:.2g}" for n in range(args.adapters)]
    together, apart = [], []
    for _ in range(args.rounds):
        together.append(tune(args, "--sweep", "lr=" + ",".join(rates)))
        print(f"together: {together[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
        apart.append([tune(args, "--lr", rate) for rate in rates])
        print(f"apart: {sum(run['seconds'] for run in apart[-1]):.0f} s", file=sys.stderr, flush=True)
    joint_s = statistics.median(run["seconds"] for run in together)
    single_s = statistics.median(sum(run["seconds"] for run in runs) for runs in apart)
    peaks = max(run["peak_bytes"] for run in together), max(run["peak_bytes"] for runs in apart for run in runs)
    losses = [line["held_out_loss_after"] for line in together[0]["members"]]
    off = max(abs(a / run["held_out_loss_after"] - 1) for a, run in zip(losses, apart[0]))
    print("| | seconds | peak GB |\n|---|---|---|")
    print(f"| {args.adapters} adapters at once | {joint_s:.0f} | {peaks[0] / 1e9:.2f} |")
    print(f"| {args.adapters} runs one after the other | {single_s:.0f} | {peaks[1] / 1e9:.2f} |")
    print(f"\nheld-out losses differ by {off:.1e} at most, relative")


def rounding(args: argparse.Namespace) -> None:
    """Whole runs in every precision, on every data set."""
    print(f"| rows | trained in | tokens/s | peak GB | held-out loss before | after | of {args.precisions[0]}'s |")
    print("|---|---|---|---|---|---|---|")
    for data in args.data:
        runs: dict[str, list[dict[str, Any]]] = {precision: [] for precision in args.precisions}
        for _ in range(args.rounds):
            for precision, found in runs.items():
                found.append(tune(args, "--precision", precision, data=data))
                print(f"{data.stem}, {precision}: {found[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
        reference = runs[args.precisions[0]][0]["held_out_loss_after"]
        for precision, found in runs.items():
            rate, peak = (statistics.median(run[name] for run in found) for name in ("tokens_per_second", "peak_bytes"))
            before, after = (found[0][f"held_out_loss_{when}"] for when in ("before", "after"))
            cells = f"{rate:.0f} | {peak / 1e9:.2f} | {before:.4f} | {after:.4f} | {after / reference - 1:+.2%}"
            print(f"| {data.stem} | {precision} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("top", "sweep", "rounding"))
    parser.add_argument("--model", default="smollm2", choices=sorted(models.PACKAGES))
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=0, help="cut the runs short; 0: as the epochs say")
    parser.add_argument("--eval-rows", type=int, default=64)
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--data", type=Path, nargs="+", default=[BUILTIN], help="of rounding")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "int8"], help="of rounding")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    {"top": top, "sweep": sweep, "rounding": rounding}[args.what](args)


if __name__ == "__main__":
    main()
