"""Many clients at once: random stacks, lengths, cancels and bad requests.

    python bench/load.py --serve smollm2 --adapters 8 --clients 64 --seconds 600
    python bench/load.py --url http://127.0.0.1:7860 --pid 4711        # a server that runs already

``--serve`` takes a model by its path or a real one of the tests, makes random adapters of rank 16 for it in a home that
is thrown away, and serves it in a process of its own. Takes ``--seconds``, up to a minute before to warm up, and after
each of the two what the last answers need (every client has one on its way: 64 clients on a slow machine: minutes).

Reports the first token and the tokens per second of each answer at the 50th, 95th and 99th percentile, what was said
by status, and the server's memory without its cache of keys and values, which has a bound of its own and fills it: the
median of samples in the first and the last fifth of the time, and the most. Ends with 1 if an error came back that was
not the client's own, if a request was starved, if anything still ran when all had left, or if that memory grew by more
than a tenth. Pages of the cache that were given back stay with the process and count: judge memory by runs of minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
sys.path[:0] = [str(SOURCE), str(HERE.parent / "tests")]

import models  # noqa: E402

SAMPLED_S = 5.0  # between two looks at the memory
IDLE_S = 30.0  # in which a server that everybody left must have nothing to do
BAD_BODIES: tuple[bytes, ...] = (
    b"{",
    b"\xff",
    b'{"messages": "no"}',
    b'{"messages": [{"role": "user", "content": "x"}], "temperature": -1}',
    b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}',
    b"[" * 10_000,
)
TEXT = "the moon is old and the sea is wide so tell me what you know about both of them in a few words"


@dataclasses.dataclass
class Results:
    """What came back. Times in seconds."""

    first_token_s: list[float] = dataclasses.field(default_factory=list)
    speeds: list[float] = dataclasses.field(default_factory=list)
    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    memory: list[int] = dataclasses.field(default_factory=list)


def random_model(chance: random.Random, base: str, adapters: list[str]) -> str:
    worn = chance.sample(adapters, k=min(len(adapters), chance.choice((0, 1, 1, 2, 3))))
    return "+".join([base, *(f"{name}:{chance.choice((0.5, 0.8, 1, 1.5))}" for name in worn)])


def random_body(chance: random.Random, model: str) -> dict[str, Any]:
    text = " ".join(chance.choices(TEXT.split(), k=chance.choice((3, 20, 80, 200))))
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": chance.choice((1, 8, 32, 64)),
        "temperature": chance.choice((0, 0.7, 1.2)),
        "stream": True,
    }
    if chance.random() < 0.1:
        body["response_format"] = {"type": "regex", "regex": "[a-z]{1,20}"}
    return body


async def ask(http: httpx.AsyncClient, body: dict[str, Any], leave_after: int | None, results: Results) -> None:
    started, first, tokens = time.perf_counter(), 0.0, 0
    async with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        if reply.status_code != 200:
            results.outcomes[str(reply.status_code)] += 1
            if reply.status_code == 503:  # the queue is full: come again when the server says so
                await asyncio.sleep(float(reply.headers.get("retry-after", 1)))
            else:
                results.faults.append(f"{reply.status_code}: {(await reply.aread())[:200]!r}")
            return
        async for line in reply.aiter_lines():
            if '"error"' in line:
                results.faults.append(line[:200])
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                tokens += 1
                first = first or time.perf_counter()
            if tokens == leave_after:
                results.outcomes["left"] += 1
                return
    results.outcomes["answered"] += 1
    if tokens:
        results.first_token_s.append(first - started)
    if tokens > 1:
        results.speeds.append((tokens - 1) / (time.perf_counter() - first))


async def client(
    http: httpx.AsyncClient, chance: random.Random, end: float, names: tuple[str, list[str]], results: Results
) -> None:
    """Ask one thing after another until ``end``; the answer on its way then is still read to its own end."""
    while time.perf_counter() < end:
        try:
            if chance.random() < 0.1:
                reply = await http.post("/v1/chat/completions", content=chance.choice(BAD_BODIES))
                results.outcomes["refused" if 400 <= reply.status_code < 500 else "fault"] += 1
                if not 400 <= reply.status_code < 500:
                    results.faults.append(f"a bad request got {reply.status_code}")
                continue
            leave_after = chance.choice((0, 1, 3)) if chance.random() < 0.15 else None
            await ask(http, random_body(chance, random_model(chance, *names)), leave_after, results)
        except httpx.TimeoutException:
            results.faults.append(f"a client was starved for {http.timeout.read:g} s")
        except httpx.HTTPError as error:
            results.faults.append(f"{type(error).__name__}: {error}")


async def crowd(
    arguments: argparse.Namespace, url: str, pid: int | None, seconds: float, names: tuple[str, list[str]]
) -> Results:
    """All clients at once, each on a connection of its own. One TLS context serves them: 64 take seconds to make."""
    results, end = Results(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=arguments.patience, limits=limits) as http:
        watching = asyncio.create_task(watch(http, pid, results)) if pid else None
        chances = [random.Random(f"{arguments.seed}:{number}") for number in range(arguments.clients)]
        await asyncio.gather(*(client(http, chance, end, names, results) for chance in chances))
        if watching is not None:
            watching.cancel()
        await idle(http, results)
    return results


async def watch(http: httpx.AsyncClient, pid: int, results: Results) -> None:
    """The server's memory in bytes without its keys and values, again and again."""
    process = psutil.Process(pid)
    while True:
        cache = (await gauges(http))["nomoat_cache_bytes"]
        results.memory.append(process.memory_info().rss - int(cache))
        await asyncio.sleep(SAMPLED_S)


async def idle(http: httpx.AsyncClient, results: Results) -> None:
    """What was left or answered must hold no place in the batch."""
    until = time.perf_counter() + IDLE_S
    while time.perf_counter() < until:
        now = await gauges(http)
        if now["nomoat_running"] == now["nomoat_queued"] == 0:
            return
        await asyncio.sleep(0.2)
    results.faults.append(f"{now['nomoat_running']:g} requests run that nobody waits for")


async def gauges(http: httpx.AsyncClient) -> dict[str, float]:
    """What ``/metrics`` says without labels."""
    lines = (line.split() for line in (await http.get("/metrics")).text.splitlines() if line[:1] not in ("#", ""))
    return {name: float(value) for name, value in lines if "{" not in name}


def percentiles(values: list[float], *, low_is_bad: bool = False) -> str:
    """The 50th, 95th and 99th percentile towards the bad end."""
    if len(values) < 2:
        return f"{'-':>8} {'-':>8} {'-':>8}"
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    places = (50, 5, 1) if low_is_bad else (50, 95, 99)
    return " ".join(f"{cuts[place - 1]:8.2f}" for place in places)


def memory_line(samples: list[int]) -> tuple[str, bool]:
    """Memory in the first and the last fifth of the time, and whether it grew by more than a tenth."""
    fifth = max(1, len(samples) // 5)
    first, last = statistics.median(samples[:fifth]), statistics.median(samples[-fifth:])
    sizes = [f"{size / 2**20:.0f} MiB" for size in (first, last, max(samples))]
    return f"memory beside the cache: {sizes[0]} at first, {sizes[1]} at last, {sizes[2]} at most", last > first * 1.1


@contextlib.contextmanager
def own_server(model: str, adapters: int, flags: list[str]) -> Iterator[tuple[str, int]]:
    """A server of its own and its process id, with random adapters in a home that is thrown away."""
    path = Path(model) if Path(model).exists() else models.path(model)
    with tempfile.TemporaryDirectory() as home:
        make_adapters(path, Path(home), adapters)
        environment = dict(os.environ, NOMOAT_HOME=home, PYTHONPATH=str(SOURCE), HF_HUB_OFFLINE="1")
        command = [sys.executable, "-m", "nomoat", "serve", str(path), "--port", "0", "--json", *flags]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                line = server.stdout.readline()
                if not line:
                    raise SystemExit("the server did not start")
                yield json.loads(line)["url"], server.pid
            finally:
                server.terminate()


def make_adapters(path: Path, home: Path, count: int) -> None:
    """Random adapters of rank 16 on all linear modules, in a store."""
    import torch

    from nomoat.core.store import Lineage, Parent, Store, write_lineage
    from nomoat.model.adapter_files import save_adapter
    from nomoat.model.adapters import AdapterConfig
    from nomoat.model.load import load_base

    store, base = Store(home), load_base(path)
    for seed in range(count):
        adapter = base.new_adapter(AdapterConfig(rank=16, alpha=32), seed=seed, name=f"a{seed}")
        for delta in adapter.deltas.values():
            torch.nn.init.normal_(delta.lora_B, std=0.01)
        with store.writing("adapters", f"a{seed}") as folder:
            save_adapter(adapter, folder)
            write_lineage(folder, Lineage("adapters", f"a{seed}", parents=(Parent("bases", base.name, ""),)))


async def run(arguments: argparse.Namespace, url: str, pid: int | None) -> int:
    rows = httpx.get(f"{url}/v1/models").json()["data"]
    base = next(row["id"] for row in rows if row["parent"] is None)
    adapters = [row["id"] for row in rows if row["parent"] is not None and not row["root"].startswith(f"{base}+")]
    warmed = await crowd(arguments, url, pid, min(arguments.seconds / 5, 60.0), (base, adapters))
    results = await crowd(arguments, url, pid, arguments.seconds, (base, adapters))
    print(f"{arguments.clients} clients, {arguments.seconds:g} s, {base} with {len(adapters)} adapters")
    print(f"{'':24}{'p50':>8} {'p95':>8} {'p99':>8} {'worst':>8}")
    print(f"{'first token, s':24}{percentiles(results.first_token_s)} {max(results.first_token_s, default=0):8.2f}")
    slow = percentiles(results.speeds, low_is_bad=True)
    print(f"{'tokens/s an answer':24}{slow} {min(results.speeds, default=0):8.2f}")
    print("  ".join(f"{name} {count}" for name, count in sorted(results.outcomes.items())))
    grown = False
    if results.memory:
        line, grown = memory_line(results.memory)
        print(line)
    faults = [*warmed.faults, *results.faults]
    for fault in faults[:20]:
        print(f"fault: {fault}")
    return 1 if faults or grown else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--serve", metavar="MODEL", help="a GGUF file, a folder, or smollm2, gemma3, qwen05")
    where.add_argument("--url", help="a server that runs")
    parser.add_argument("--adapters", type=int, default=8, help="with --serve: how many")
    parser.add_argument("--flags", default="", help="with --serve: further flags of nomoat serve")
    parser.add_argument("--pid", type=int, help="with --url: the server's process, to watch its memory")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--patience", type=float, default=120, help="seconds without a byte that count as starved")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.url:
        return asyncio.run(run(arguments, arguments.url, arguments.pid))
    with own_server(arguments.serve, arguments.adapters, shlex.split(arguments.flags)) as (url, pid):
        return asyncio.run(run(arguments, url, pid))


if __name__ == "__main__":
    sys.exit(main())
