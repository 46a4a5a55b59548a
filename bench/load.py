"""Many clients at once against a running server: random stacks, lengths, cancels and bad requests.

    nomoat serve smollm2-135m --port 7860
    python bench/load.py http://127.0.0.1:7860 --clients 64 --seconds 600

Takes ``--seconds``, a fifth of that before to warm up, and after each of the two what the last answers need (every
client has one on its way: with 64 clients on a slow machine, minutes). Reports the first token and the tokens per
second of each answer at the 50th, 95th and 99th percentile, what was answered by status, and with ``--pid`` the
server's memory, without its cache of keys and values, before and after. Ends with 1 if an error came back that was not
the client's own, if a request was starved, or if that memory grew by more than a tenth. Pages
of the cache that were given back stay with the process and count: judge memory by runs of minutes, which fill it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import json
import random
import statistics
import sys
import time
from typing import Any

import httpx
import psutil

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
            if reply.status_code != 503:
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
            leave_after = chance.choice((1, 3)) if chance.random() < 0.15 else None
            await ask(http, random_body(chance, random_model(chance, *names)), leave_after, results)
        except httpx.TimeoutException:
            results.faults.append(f"a client was starved for {http.timeout.read:g} s")
        except httpx.HTTPError as error:
            results.faults.append(f"{type(error).__name__}: {error}")


async def crowd(arguments: argparse.Namespace, seconds: float, names: tuple[str, list[str]]) -> Results:
    """All clients at once, each on a connection of its own. One TLS context serves them: 64 take seconds to make."""
    results, end = Results(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=arguments.url, timeout=arguments.patience, limits=limits) as http:
        chances = [random.Random(f"{arguments.seed}:{number}") for number in range(arguments.clients)]
        await asyncio.gather(*(client(http, chance, end, names, results) for chance in chances))
    return results


def percentiles(values: list[float], *, low_is_bad: bool = False) -> str:
    """The 50th, 95th and 99th percentile towards the bad end."""
    if len(values) < 2:
        return f"{'-':>8} {'-':>8} {'-':>8}"
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    places = (50, 5, 1) if low_is_bad else (50, 95, 99)
    return " ".join(f"{cuts[place - 1]:8.2f}" for place in places)


def beside_cache(process: psutil.Process, url: str) -> int:
    """The server's memory in bytes without its keys and values: those have a bound of their own, and fill it."""
    text = httpx.get(f"{url}/metrics").text
    cache = next(line.split()[1] for line in text.splitlines() if line.startswith("nomoat_cache_bytes "))
    return int(process.memory_info().rss) - int(float(cache))


async def run(arguments: argparse.Namespace) -> int:
    rows = httpx.get(f"{arguments.url}/v1/models").json()["data"]
    base = next(row["id"] for row in rows if row["parent"] is None)
    adapters = [row["id"] for row in rows if row["parent"] is not None and not row["root"].startswith(f"{base}+")]
    process = psutil.Process(arguments.pid) if arguments.pid else None
    await crowd(arguments, min(arguments.seconds / 5, 60.0), (base, adapters))
    before = beside_cache(process, arguments.url) if process else 0
    results = await crowd(arguments, arguments.seconds, (base, adapters))
    after = beside_cache(process, arguments.url) if process else 0
    print(f"{arguments.clients} clients, {arguments.seconds:g} s, {base} with {len(adapters)} adapters")
    print(f"{'':24}{'p50':>8} {'p95':>8} {'p99':>8}")
    print(f"{'first token, s':24}{percentiles(results.first_token_s)}")
    print(f"{'tokens/s an answer':24}{percentiles(results.speeds, low_is_bad=True)}")
    print("  ".join(f"{name} {count}" for name, count in sorted(results.outcomes.items())))
    if process:
        print(f"memory beside the cache: {before / 2**20:.0f} MiB after warm-up, {after / 2**20:.0f} MiB at the end")
    for fault in results.faults[:20]:
        print(f"fault: {fault}")
    grown = bool(process) and after > before * 1.1
    return 1 if results.faults or grown else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--patience", type=float, default=120, help="seconds without a byte that count as starved")
    parser.add_argument("--pid", type=int, help="the server's process, to watch its memory")
    parser.add_argument("--seed", type=int, default=0)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
