"""The engine of nomoat behind the commands of ``serve_job.py``: ``MODEL THREADS [--round-prompts] [FOLDER ...]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from serve_job import Command, serve

from nomoat.engine.generate import Engine, Request
from nomoat.engine.sampling import Sampling
from nomoat.model.load import load_base

ROUNDED = "--round-prompts"


def main() -> None:
    model, threads, *more = sys.argv[1:]
    folders = [word for word in more if word != ROUNDED]
    torch.set_num_threads(int(threads))
    base = load_base(Path(model), name="bench")
    adapters = [base.load_adapter(Path(folder)) for folder in folders]

    def run(command: Command) -> dict[str, Any]:
        sampling = Sampling(max_tokens=command.max_tokens)
        requests = [
            Request(tokens, sampling, tuple((adapters[number], 1.0) for number in worn))
            for tokens, worn in zip(command.prompts, command.adapters)
        ]
        times: list[float] = []
        began = time.perf_counter()
        for _ in Engine(base, round_prompts=ROUNDED in more).stream(requests):
            times.append(time.perf_counter() - began)
        decode = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        return {"seconds": times[-1], "tokens": len(times), "first": times[0], "decode": decode}

    serve(run)


main()
