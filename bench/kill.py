"""Kill a tune at random moments, resume it, and compare the adapter with that of a run left alone.

    python bench/kill.py --kills 20
    python bench/kill.py --kills 5 --base model.gguf --data rows.jsonl --flags "--max-steps 30"

SIGKILL, which no process can catch, at a moment drawn evenly over the length of a whole run: while it loads, in
the middle of a step, while a checkpoint is written. A run that is killed before it has a folder is simply started
again. Ends with exit code 1 if any byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
sys.path.insert(0, str(HERE.parent / "tests"))

import models  # noqa: E402

BUILTIN = SOURCE / "nomoat" / "data" / "builtin" / "text-to-sql" / "train.jsonl"
FLAGS = "--max-steps 12 --eval-every 3 --eval-rows 4 --batch-size 2"


def tune(home: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """Start ``nomoat tune`` in a home of its own."""
    environment = dict(os.environ, NOMOAT_HOME=str(home), PYTHONPATH=str(SOURCE), HF_HUB_OFFLINE="1")
    command = [sys.executable, "-m", "nomoat", "tune", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, talk = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the tune failed with {process.returncode}:\n{talk[-2000:]}")


def adapter_bytes(home: Path) -> str:
    """Hash over the two files of the adapter."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update((home / "adapters" / "killed" / name).read_bytes())
    return digest.hexdigest()


def killed_and_resumed(home: Path, start: list[str], delay_s: float) -> tuple[str, str]:
    """What the kill met, and the hash of the adapter in the end."""
    process = tune(home, start)
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    runs = sorted((home / "runs").glob("[!.]*")) if (home / "runs").exists() else []
    if (home / "adapters" / "killed").exists():
        return "finished before", adapter_bytes(home)
    if not runs:
        finish(tune(home, start))
        return "no run yet", adapter_bytes(home)
    saved = sorted(path.name for path in runs[0].glob("checkpoint-*"))
    finish(tune(home, ["--resume", runs[0].name]))
    return saved[-1] if saved else "no checkpoint yet", adapter_bytes(home)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--base", type=Path, default=None, help="default: SmolLM2-135M-Instruct")
    parser.add_argument("--data", type=Path, default=BUILTIN)
    parser.add_argument("--flags", default=FLAGS, help=f"of the tune [{FLAGS}]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    base, moments = args.base or models.path("smollm2"), random.Random(args.seed)
    start = [str(args.data), "--base", str(base), "--name", "killed", "--probe-seconds", "0"]
    start += ["--threads", str(args.threads), *shlex.split(args.flags)]
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        began = time.perf_counter()
        finish(tune(whole, start))
        length_s, expected = time.perf_counter() - began, adapter_bytes(whole)
        print(f"left alone: {length_s:.1f} s, {expected[:16]}")
        for number in range(args.kills):
            delay_s = moments.uniform(0, length_s)
            met, got = killed_and_resumed(Path(folder) / str(number), start, delay_s)
            different += got != expected
            print(
                f"killed after {delay_s:5.1f} s, {met:20} {'same bytes' if got == expected else 'DIFFERENT'}",
                flush=True,
            )
    print(f"{args.kills - different} of {args.kills} end with the same bytes")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
