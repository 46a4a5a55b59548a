"""What a judge learns from the same pairs as an adapter, as a reward model, and as a reward head alone.

    python bench/judges.py qwen05.gguf hh.jsonl --max-steps 120        a quarter of an hour or more on two cores
    python bench/judges.py BASE PAIRS --kinds reward-head

Each is a whole ``nomoat school`` in one home: the same split of the pairs, the same exam before and after, ends with a
Markdown table. What is behind -- goes to ``nomoat school`` as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent.parent / "src"
KINDS = ("adapter", "reward", "reward-head")


def school(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """Both exams of a kind and the seconds of the whole."""
    environment = dict(os.environ, NOMOAT_HOME=str(args.home), PYTHONPATH=str(SOURCE))
    flags = ["--kind", kind, "--name", f"judge-{kind}", "--replace", "--json", *args.more]
    command = [sys.executable, "-m", "nomoat", "school", str(args.base), str(args.pairs), *flags]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    last = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    if last.get("record") != "done":  # a judge that failed its exam ends with 1, and with a result
        raise SystemExit(f"{kind} failed:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}")
    result: dict[str, Any] = last["result"]
    return {**result, "seconds": time.perf_counter() - started}


def line(kind: str, result: dict[str, Any]) -> str:
    """One row of the table."""
    gap = result["agreement"]["difference"]
    cells = [kind]
    for when in ("before", "after"):
        share = result[when]["agreement"]
        passed = sum(part["passed"] for part in result[when]["parts"])
        cells.append(f"{share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})")
        cells.append(f"{passed} of {len(result[when]['parts'])}")
    cells.append(f"{gap['value']:+.0%} ({gap['low']:+.0%} to {gap['high']:+.0%})")
    cells.append(f"{result['seconds']:.0f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="the base that is taught")
    parser.add_argument("pairs", type=Path, help="labelled pairs")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--home", type=Path, default=Path("/tmp/nomoat-judges"))
    args, args.more = parser.parse_known_args()
    args.more = [word for word in args.more if word != "--"]
    print("| kind | agrees before | parts passed | agrees after | parts passed | right in both orders | seconds |")
    print("|---|---|---|---|---|---|---|")
    for kind in args.kinds:
        print(line(kind, school(kind, args)), flush=True)


if __name__ == "__main__":
    main()
