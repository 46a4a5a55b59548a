"""llama-server behind the commands of ``serve_job.py``: ``BINARY|xllamacpp MODEL THREADS [--cache] [LORA.gguf ...]``.

The binary is a ``llama-server``; ``xllamacpp`` is the same server inside the wheel of that name. Its own figures for a
single request (``timings``) are taken, which leave HTTP out; all is greedy and without end-of-text. Its prompt cache is
off without ``--cache``: rounds repeat their prompts, and its keys and values ignore which adapter a request wears.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from serve_job import Command, serve

SLOTS, CONTEXT = 8, 4096  # CONTEXT tokens a slot
CACHE = "--cache"


@contextlib.contextmanager
def binary(path: str, model: str, threads: str, loras: list[str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [path, "-m", model, "-t", threads, "-tb", threads, "-np", str(SLOTS), "-c", str(SLOTS * CONTEXT)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-webui", "--lora-init-without-apply"]
    for lora in loras:
        command += ["--lora", lora]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def wheel(model: str, threads: str, loras: list[str]) -> Iterator[str]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.n_parallel, params.n_ctx, params.warmup = SLOTS, SLOTS * CONTEXT, True
    params.lora_init_without_apply = True
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in loras]
    server = xllamacpp.Server(params)
    yield server.listening_address


def wait_for(address: str, client: httpx.Client) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if client.get(f"{address}/health").status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit("llama-server did not start")


def main() -> None:
    kind, model, threads, *more = sys.argv[1:]
    loras = [word for word in more if word != CACHE]
    starting = wheel(model, threads, loras) if kind == "xllamacpp" else binary(kind, model, threads, loras)
    with starting as address, httpx.Client(timeout=600) as client:
        wait_for(address, client)

        def complete(tokens: list[int], worn: list[int], max_tokens: int) -> dict[str, Any]:
            wish = {"prompt": tokens, "n_predict": max_tokens, "temperature": 0.0, "cache_prompt": CACHE in more}
            strengths = [{"id": number, "scale": float(number in worn)} for number in range(len(loras))]
            reply = client.post(f"{address}/completion", json=wish | {"ignore_eos": True, "lora": strengths})
            reply.raise_for_status()
            timings: dict[str, Any] = reply.json()["timings"]
            return timings

        def run(command: Command) -> dict[str, Any]:
            began = time.perf_counter()
            with ThreadPoolExecutor(len(command.prompts)) as pool:
                wishes = zip(command.prompts, command.adapters, [command.max_tokens] * len(command.prompts))
                found = list(pool.map(lambda wish: complete(*wish), wishes))
            seconds, tokens = time.perf_counter() - began, sum(each["predicted_n"] for each in found)
            first, decode = found[0]["prompt_ms"] / 1000, found[0]["predicted_per_second"]
            return {"seconds": seconds, "tokens": tokens, "first": first, "decode": decode}

        serve(run)


main()
