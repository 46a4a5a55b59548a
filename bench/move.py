"""A stack moved to another family: what is left of each skill, beside a plain tune on the same rows.

    python bench/move.py --skill sql=rows.jsonl --skill french=fr.jsonl --model smollm2 --to gemma3 --rows 400

The skills are learned one on top of the other, each rehearsing those before it. The stack then goes to ``--to`` four
times: with its own answers (logits where the tokenizers agree, else as a trial finds), with its words alone, with what
it thought where two tokenizers cut them alike, and, as the control that needs no old stack, with the answers that the
rows have. Prints the retention tables with 95 % intervals and, last, a JSON line of all figures with the seconds that
each way took.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from stack import add_rows, finish, options, read_skill  # noqa: E402

import models  # noqa: E402
from nomoat.core.store import Store  # noqa: E402
from nomoat.move.job import move  # noqa: E402
from nomoat.move.options import MoveOptions  # noqa: E402
from nomoat.train.tune import tune  # noqa: E402

WAYS: dict[str, dict[str, Any]] = {
    "its answers": {},
    "its words": {"learn": "words"},
    "its words, aligned": {"learn": "aligned"},
    "the rows": {"answers": "rows", "learn": "words"},
}


def old_stack(args: argparse.Namespace, store: Store, folder: Path) -> str:
    """Tune the skills, each on top of those before it; return the name of the whole."""
    name = str(models.path(args.model))
    for number, text in enumerate(args.skill):
        skill, rows = read_skill(text, args.seed)
        add_rows(store, skill, rows[: args.rows], folder)
        below = {"on": name, "rehearse_skills": args.rehearse} if number else {"base": name}
        finish(tune(options(args, data=skill, name=f"old-{skill}", **below), store))
        name += f"+old-{skill}"
    return name


def moved(args: argparse.Namespace, store: Store, stack: str, way: str) -> dict[str, Any]:
    """One move, judged."""
    began = time.perf_counter()
    settings = MoveOptions(
        stack=stack,
        to=str(models.path(args.to)),
        name=f"new-{list(WAYS).index(way)}",
        keep=args.keep,
        limit=args.limit,
        rank=args.rank,
        lr=args.lr,
        epochs=args.epochs,
        batch_size=args.batch_size,
        max_seq_len=512,
        threads=args.threads,
        seed=args.seed,
        probe_seconds=0.0,
        **WAYS[way],
    )
    result = finish(move(settings, store))
    return {**result, "seconds": time.perf_counter() - began}


def print_table(way: str, result: dict[str, Any]) -> None:
    """A line for each skill."""
    print(f"\n{way} ({result['learned']}, {result['seconds']:.0f} s)")
    for line in result["skills"]:
        levels = "  ".join(
            f"{side} {line[side]['value']:.3f}" for side in ("old_base", "old_stack", "new_base", "moved")
        )
        kept = line["kept"]
        share = "no gain to keep" if kept["value"] is None else f"kept {kept['value']:.1%}"
        bounds = "" if kept["low"] is None else f" ({kept['low']:.1%} to {kept['high']:.1%})"
        print(f"  {line['skill']:<12} {line['rows']:>4} rows  {line['unit']:<14} {levels}  {share}{bounds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", choices=tuple(models.PACKAGES))
    parser.add_argument("--to", default="gemma3", choices=tuple(models.PACKAGES))
    parser.add_argument("--skill", action="append", required=True, metavar="NAME=FILE", help="rows in any known shape")
    parser.add_argument("--rows", type=int, default=400, help="rows of a skill")
    parser.add_argument("--limit", type=int, default=60, help="test rows of a skill")
    parser.add_argument("--rehearse", type=float, default=0.25, help="share of earlier skills' rows in the old tunes")
    parser.add_argument("--way", action="append", choices=tuple(WAYS), help="one of the ways only")
    parser.add_argument("--keep", type=float, default=0.9)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "home")
        stack = old_stack(args, store, Path(folder))
        for way in args.way or WAYS:
            same = {"its words": ("words",), "its words, aligned": ("logits", "aligned")}.get(way, ())
            if results.get("its answers", {}).get("learned") in same:
                continue  # the same move again
            results[way] = moved(args, store, stack, way)
            print_table(way, results[way])
    print(json.dumps({"options": vars(args), "result": results}))


if __name__ == "__main__":
    main()
