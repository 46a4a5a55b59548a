"""Where the time of one training step goes in each arithmetic: a table of shares, and the rate of the frozen products.

    python bench/profile_step.py --model smollm2 --tokens 2048
    python bench/profile_step.py --model qwen05 --tokens 1024 --peak-gops 4000
    NOMOAT_KERNELS=avx2 python bench/profile_step.py --model gemma3        # as a machine with less would

Rows are the built-in ones, rank 16 on all linears. ``--peak-gops`` is what the machine could do at most: int8 on AMX
2,048 operations a cycle and core, bfloat16 there 1,024, int8 with AVX-512-VNNI 256, with AVX2-VNNI 128. Without it the
share of the peak is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile, record_function  # noqa: E402

import models  # noqa: E402
from nomoat.core.records import Note, Record, returned  # noqa: E402
from nomoat.core.store import Store  # noqa: E402
from nomoat.data.pack import pack  # noqa: E402
from nomoat.evening import builtin_rows  # noqa: E402
from nomoat.kernels import attention_native, glue_native, int8_native, native  # noqa: E402
from nomoat.train.job import Job, prepare  # noqa: E402
from nomoat.train.options import TuneOptions  # noqa: E402
from nomoat.train.precision import Arithmetic, choose_arithmetic, use  # noqa: E402

# Functions that call compiled kernels: their time counts as theirs, not as that of the step of autograd around them.
NAMED: tuple[tuple[Any, str, str], ...] = (
    (native, "matmul_tiles", "bfloat16: product"),
    (int8_native, "quantize", "int8: quantize rows"),
    (int8_native, "product", "int8: product"),
    (native, "expand", "expand blocks"),
    (attention_native, "forward", "attention forward"),
    (attention_native, "backward", "attention backward"),
    (glue_native, "rms_norm", "norms"),
    (glue_native, "rms_norm_backward", "norms"),
    (glue_native, "rotate", "rotary"),
    (glue_native, "gated", "gated activation"),
    (glue_native, "gated_backward", "gated activation"),
)
OPERATIONS = [0]  # of products with frozen matrices in the step that is counted


def named(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(label):
            out = function(*args, **kwargs)
        if label.endswith(": product"):
            OPERATIONS[0] += 2 * args[0].shape[0] * args[0].shape[1] * out.shape[1]
        return out

    return call


def tell(record: Record) -> None:
    """Print a note of a stage."""
    if isinstance(record, Note):
        print(record.text)


def seconds(step: Callable[[], None], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def shares(step: Callable[[], None]) -> list[tuple[str, float, int]]:
    """Label, share of the step and calls, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    events = [(event.key, event.self_cpu_time_total, event.count) for event in found.key_averages()]
    total = sum(time_us for _, time_us, _ in events)
    return sorted(((key, time_us / total, count) for key, time_us, count in events), key=lambda row: -row[1])


def show(name: str, job: Job, step: Callable[[], None], tokens: int, args: argparse.Namespace) -> float:
    step()  # packs, and warms caches
    OPERATIONS[0] = 0
    step()
    operations, median = OPERATIONS[0], seconds(step, args.rounds)
    table = shares(step)
    print(f"\n{name}: {median:.3f} s a step of {tokens} tokens, {tokens / median:.0f} tokens/s")
    for key, share, count in table[: args.rows]:
        print(f"  {share:6.1%}  {count:5d} x  {key[:60]}")
    inside = sum(share for key, share, _ in table if key.startswith(("int8: ", "bfloat16: ")))
    if operations and inside:
        rate = operations / (inside * median) / 1e9
        of_peak = f", {rate / args.peak_gops:.0%} of the peak" if args.peak_gops else ""
        print(f"  frozen products: {operations / 1e9:.0f} G operations at {rate:.0f} G/s, rounding included{of_peak}")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", choices=("smollm2", "gemma3", "qwen05"))
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16, help="lines of the table")
    parser.add_argument("--peak-gops", type=float, default=0.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for module, function, label in NAMED:
        setattr(module, function, named(vars(module)[function], label))
    with tempfile.TemporaryDirectory() as home, builtin_rows() as folder:
        options = TuneOptions(
            data=str(folder), base=str(models.path(args.model)), name="profile", eval_rows=0, precision="int8"
        )
        job: Job = returned(prepare(options, Store(Path(home))), tell)
        batches = job.batches(args.tokens)
        task = job.task(batches)
        piece = pack([batches.rows[number] for number in batches.order(0)], args.tokens)[0]

        def step() -> None:
            torch.autograd.grad(task.loss(piece), list(task.parameters.values()))

        print(native.status(), json.dumps({"int8": int8_native.instruction_sets()}))
        use(job, Arithmetic())
        exact = show("float32", job, step, len(piece.tokens), args)
        for quick in ("bfloat16", "int8") if native.has_tiles() else ("int8",):
            chosen = dataclasses.replace(job, options=dataclasses.replace(options, precision=quick))
            returned(choose_arithmetic(chosen), tell)
            ratio = exact / show(quick, job, step, len(piece.tokens), args)
            print(f"\n{quick} is {ratio:.2f} times as fast as float32")


if __name__ == "__main__":
    main()
