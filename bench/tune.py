"""nomoat against PEFT + transformers float32 on this machine: tokens/s, memory, and the same loss.

    python bench/tune.py --model smollm2 --steps 20 --rounds 3
    python bench/tune.py --model qwen05 --tokens-per-step 1024 --steps 3 --rounds 1      # memory

Both get the same token ids, masks, row order, start tensors, rank, rate and schedule, in processes of their own,
interleaved; medians over rounds. Tokens are real ones, padding is not counted. Needs ``pip install -e '.[dev]'``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import models  # noqa: E402
import reference  # noqa: E402

BUILTIN = HERE.parent / "src" / "nomoat" / "data" / "builtin" / "text-to-sql"


def build_job(args: argparse.Namespace, folder: Path) -> Path:
    """Encode the built-in rows with the model's own template and write the job both peers read."""
    from safetensors.torch import save_file

    from nomoat.data.encode import EncodeOptions, encode_rows
    from nomoat.model.adapters import AdapterConfig
    from nomoat.model.load import load_base

    base = load_base(models.path(args.model), name=args.model)
    encoded = {}
    for split in ("train", "test"):
        lines = (BUILTIN / f"{split}.jsonl").read_text().splitlines()
        result = encode_rows([json.loads(line) for line in lines], base.tokenizer, base.template, EncodeOptions())
        encoded[split] = [{"ids": row.ids, "loss_mask": row.loss_mask} for row in result.rows]
    adapter = base.new_adapter(AdapterConfig(rank=args.rank, alpha=2 * args.rank), seed=0, name="bench")
    save_file({k: v.detach().contiguous() for k, v in adapter.parameters().items()}, folder / "start.safetensors")
    job = {
        "gguf": str(models.path(args.model)),
        "hf_folder": str(reference.hf_folder(args.model)),
        "adapter_folder": "",
        "train": encoded["train"],
        "held_out": encoded["test"][: args.held_out],
        "steps": row_order(encoded["train"], args),
        "start_tensors": str(folder / "start.safetensors"),
        "rank": args.rank,
        "alpha": 2 * args.rank,
        "lr": args.lr,
        "warmup": 0.03,
        "threads": args.threads,
        "pack_tokens": args.pack_tokens,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def row_order(rows: list[dict[str, Any]], args: argparse.Namespace) -> list[list[int]]:
    """Steps of ``batch`` rows of like length (PEFT's best case), or of a number of tokens."""
    numbers = sorted(range(len(rows)), key=lambda number: len(rows[number]["ids"]))
    if args.tokens_per_step:
        steps, step, tokens = [], [], 0
        for number in numbers[len(numbers) // 2 :]:
            step.append(number)
            tokens += len(rows[number]["ids"])
            if tokens >= args.tokens_per_step:
                steps.append(step)
                step, tokens = [], 0
    else:
        steps = [numbers[i : i + args.batch] for i in range(0, len(numbers), args.batch)]
    random.Random(0).shuffle(steps)
    return steps[: args.steps]


def run(peer: str, job: Path) -> dict[str, Any]:
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    command = [sys.executable, str(HERE / "peers" / f"{peer}_run.py"), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    timed = result["seconds"][1:]  # the first step warms up caches and pages
    result["tokens_per_second"] = result["tokens"] * len(timed) / len(result["seconds"]) / sum(timed)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", choices=sorted(models.PACKAGES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens-per-step", type=int, default=0)
    parser.add_argument("--pack-tokens", type=int, default=2048)
    parser.add_argument("--held-out", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {"peft": [], "nomoat": []}
    with tempfile.TemporaryDirectory() as name:
        job = build_job(args, Path(name))
        for number in range(args.rounds):
            for peer, found in results.items():
                found.append(run(peer, job))
                print(f"round {number + 1} {peer}: {found[-1]['tokens_per_second']:.0f} tokens/s", file=sys.stderr)
    print(f"| {args.model} | tokens/s | peak RSS, GB | held-out before | after |\n|---|---|---|---|---|")
    for peer, found in results.items():
        cells = [statistics.median(result[key] for result in found) for key in ("tokens_per_second", "peak_rss_gb")]
        print(f"| {peer} | {cells[0]:.0f} | {cells[1]:.2f} | {found[0]['before']:.4f} | {found[0]['after']:.4f} |")
    ratio = [n["tokens_per_second"] / p["tokens_per_second"] for p, n in zip(results["peft"], results["nomoat"])]
    print(f"\nnomoat / peft tokens/s, round by round: {', '.join(f'{r:.2f}' for r in ratio)}")


if __name__ == "__main__":
    main()
