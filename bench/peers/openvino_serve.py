"""OpenVINO GenAI behind the commands of ``serve_job.py``: ``MODEL THREADS``; it mixes no adapters in a batch.

``MODEL`` is a GGUF file of a type it opens (Q8_0, Q4_0, F16 of a llama or qwen2) or a converted folder. Its own figures
of a single request are taken; all is greedy and without end-of-text. ``pip install openvino-genai``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai
from serve_job import Command, serve


def main() -> None:
    model, threads = sys.argv[1:3]
    pipeline = openvino_genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=int(threads))

    def complete(tokens: list[int], max_tokens: int) -> tuple[int, float, float]:
        config = openvino_genai.GenerationConfig(max_new_tokens=max_tokens, do_sample=False, ignore_eos=True)
        ids = openvino.Tensor(np.array([tokens], np.int64))
        mask = openvino.Tensor(np.ones((1, len(tokens)), np.int64))
        found = pipeline.generate(openvino_genai.TokenizedInputs(ids, mask), config)
        metrics = found.perf_metrics
        each = metrics.get_tpot().mean / 1000 if max_tokens > 1 else 0.0
        return len(found.tokens[0]), metrics.get_ttft().mean / 1000, each

    def run(command: Command) -> dict[str, Any]:
        if any(command.adapters):
            raise SystemExit("OpenVINO GenAI takes one set of adapters a batch")
        began = time.perf_counter()
        found = [complete(tokens, command.max_tokens) for tokens in command.prompts]
        seconds, (_, first, each) = time.perf_counter() - began, found[0]
        decode = 1 / each if each else 0.0
        return {"seconds": seconds, "tokens": sum(count for count, _, _ in found), "first": first, "decode": decode}

    serve(run)


main()
