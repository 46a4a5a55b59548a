"""How the cost of training grows: tokens/s against sequence length, rank, threads and model size, as one plot.

    python bench/growth.py --minutes 30          measures what is missing, then draws docs/growth.svg
    python bench/growth.py --minutes 0           draws what was measured before

Models have the shapes named and random Q4_0 weights, made in memory: time does not depend on what they say. Each point
is a process of its own: one step to warm up, then the fastest of three, over at least 1,024 tokens of documents of one
length, a quarter of the tokens learned. What is measured is kept in --results, so the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
COLOURS = {"float32": "#2f5d9f", "bfloat16": "#c8553d", "int8": "#5b8c3e"}
LEAST_TOKENS = 1024
# layers, width, heads, key-value heads, inner width, vocabulary
SHAPES = {
    "135M": (30, 576, 9, 3, 1536, 49_152),
    "360M": (32, 960, 15, 5, 2560, 49_152),
    "0.5B": (24, 896, 14, 2, 4864, 151_936),
    "1.2B": (16, 2048, 32, 8, 8192, 128_256),
    "1.5B": (28, 1536, 12, 2, 8960, 151_936),
    "tiny": (2, 64, 4, 2, 128, 512),  # for trying this file out
}
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
RANKS = (4, 8, 16, 32, 64, 128)


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting."""

    model: str
    length: int
    rank: int
    threads: int
    precision: str

    @property
    def key(self) -> str:
        return " ".join(map(str, dataclasses.astuple(self)))


def panels(model: str, threads: int, precisions: Sequence[str]) -> dict[str, list[tuple[float, Point]]]:
    """The points of each panel with their place on its axis."""
    found: dict[str, list[tuple[float, Point]]] = {"length": [], "rank": [], "threads": [], "size": []}
    for precision in precisions:
        usual = Point(model, 512, 16, threads, precision)
        found["length"] += [(n, dataclasses.replace(usual, length=n)) for n in LENGTHS]
        found["rank"] += [(n, dataclasses.replace(usual, rank=n)) for n in RANKS]
        found["threads"] += [(n, dataclasses.replace(usual, threads=n)) for n in range(1, threads + 1)]
        found["size"] += [(parameters(m), dataclasses.replace(usual, model=m)) for m in SHAPES if m != "tiny"]
    return found


def parameters(model: str) -> float:
    """Weights of the layers and the (tied) embedding, in millions."""
    layers, width, heads, kv_heads, inner, vocabulary = SHAPES[model]
    attention = width * (width // heads) * (2 * heads + 2 * kv_heads)
    return (layers * (attention + 3 * width * inner) + vocabulary * width) / 1e6


# -- one point, in a process of its own


def measure(point: Point) -> dict[str, Any]:
    """Tokens/s and peak memory of one setting."""
    import torch

    from nomoat.model.adapters import AdapterConfig, new_adapter
    from nomoat.model.fingerprint import fingerprint_of
    from nomoat.model.precision import use_bfloat16, use_int8
    from nomoat.train.adamw import AdamW, AdamWOptions

    torch.set_num_threads(point.threads)
    decoder = synthetic(point.model, max(point.length, 512))
    if point.precision == "int8":
        use_int8(decoder, first=None)
    elif point.precision == "bfloat16":
        use_bfloat16(decoder)
    config = AdapterConfig(rank=point.rank, alpha=2.0 * point.rank)
    print_of = fingerprint_of(decoder)
    adapter = new_adapter(decoder, config, seed=0, name="growth", base_name="growth", fingerprint=print_of)
    optimizer = AdamW(adapter.parameters(), AdamWOptions())
    documents = max(1, LEAST_TOKENS // point.length)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        step(decoder, adapter, optimizer, documents, point.length)
        seconds.append(time.perf_counter() - began)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"tokens_per_second": documents * point.length / min(seconds[1:]), "peak_rss_gb": peak_gb}


def step(decoder: Any, adapter: Any, optimizer: Any, documents: int, length: int) -> None:
    import torch

    from nomoat.model.cache import Layout

    n_tokens = documents * length
    tokens = torch.randint(decoder.config.vocab_size, (n_tokens,), generator=torch.Generator().manual_seed(0))
    learned = torch.arange(n_tokens) % length >= length - length // 4
    losses = decoder.next_token_losses(tokens, Layout([length] * documents), learned, ((adapter, 1.0),))
    losses.nll.mean().backward()
    optimizer.update(1e-4)
    optimizer.zero_grad()


def synthetic(model: str, longest: int) -> Any:
    """A decoder of that shape with random weights in Q4_0 blocks."""
    from nomoat.model.build import Builder
    from nomoat.model.hf_config import config_from_hf

    layers, width, heads, kv_heads, inner, vocabulary = SHAPES[model]
    values = {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": longest,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    }
    config = config_from_hf(values, source=model)
    return Builder(RandomWeights(config), config, lambda name: name, pairs=False, norm_offset=0.0).decoder()


class RandomWeights:
    """The tensors of a llama-shaped configuration (``formats.weights.Weights``): norms are one, matrices Q4_0."""

    path = Path("random")

    def __init__(self, config: Any) -> None:
        c = config
        d, q, kv = c.d_model, c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
        layer = {
            "self_attn.q_proj": (q, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, q),
            "mlp.gate_proj": (c.d_ff, d),
            "mlp.up_proj": (c.d_ff, d),
            "mlp.down_proj": (d, c.d_ff),
            "input_layernorm": (d,),
            "post_attention_layernorm": (d,),
        }
        self._shapes: dict[str, tuple[int, ...]] = {
            f"model.layers.{i}.{name}.weight": shape for i in range(c.n_layers) for name, shape in layer.items()
        }
        self._shapes |= {"model.embed_tokens.weight": (c.vocab_size, d), "model.norm.weight": (d,)}

    def names(self) -> list[str]:
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def type(self, name: str) -> str:
        return "F32" if len(self._shapes[name]) == 1 else "Q4_0"

    def data(self, name: str) -> Any:
        """A Q4_0 block is a float16 scale and 32 four-bit numbers."""
        import numpy as np

        shape = self._shapes[name]
        if len(shape) == 1:
            return np.ones(shape, dtype=np.float32).view(np.uint8)[None]
        rows, columns = shape
        blocks = np.random.default_rng(len(name)).integers(0, 256, (rows, columns // 32, 18), dtype=np.uint8)
        scale = np.array([1 / (4.6 * math.sqrt(columns))], dtype=np.float16)  # 4.6: spread of the numbers -8 to 7
        blocks[:, :, :2] = scale.view(np.uint8)
        return blocks.reshape(rows, -1)


# -- all points, and the picture


def measured(point: Point, timeout_s: float) -> dict[str, Any]:
    """Run a point in a process of its own; one that fails or takes too long is kept as such."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), HF_HUB_OFFLINE="1")
    command = [sys.executable, str(Path(__file__)), "--point", json.dumps(dataclasses.asdict(point))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=max(1.0, timeout_s)
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {timeout_s:.0f} s"}
    if done.returncode != 0:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def collect(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure the missing points until the time is up."""
    results = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
    end = time.monotonic() + 60 * args.minutes
    wanted = [point for points in panels(args.model, args.threads, args.precisions).values() for _, point in points]
    for point in sorted(set(wanted), key=lambda each: (each.length * parameters(each.model), each.key)):
        left_s = end - time.monotonic()
        if point.key in results or left_s <= 0:
            continue
        found = measured(point, min(left_s, args.seconds))
        if "failed" in found and left_s < args.seconds:
            break  # cut off by the end of the time: the next call tries it again
        results[point.key] = found
        args.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{point.key}: {found.get('failed') or round(found['tokens_per_second'])}", file=sys.stderr, flush=True)
    return results


def draw(results: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    """Four panels of tokens/s, a line for each precision."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    model, threads = args.model, args.threads
    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    titles = {
        "length": f"tokens in a document ({model}, rank 16)",
        "rank": f"rank ({model}, 512 tokens)",
        "threads": f"threads ({model})",
        "size": "weights (rank 16)",
    }
    for place, (panel, points) in enumerate(panels(model, threads, args.precisions).items(), 1):
        axes = figure.add_subplot(2, 2, place)
        for precision in args.precisions:
            known = sorted(
                (x, results[point.key]["tokens_per_second"])
                for x, point in points
                if point.precision == precision and "tokens_per_second" in results.get(point.key, {})
            )
            if known:
                axes.plot(*zip(*known), color=COLOURS[precision], marker="o", markersize=4, label=precision)
        axes.set(xlabel=titles[panel], ylabel="tokens/s" if place % 2 else "")
        axes.set_ylim(bottom=0)
        if panel != "threads":
            axes.set_xscale("log", base=2 if panel != "size" else 10)
        else:
            axes.set_xticks(range(1, threads + 1))
        if panel == "size":
            names = {parameters(name): name for name in SHAPES if name != "tiny"}
            axes.set_xticks(list(names), labels=list(names.values()))
            axes.minorticks_off()
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasSVG(figure).print_svg(str(args.out), metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=300.0, help="most that one point may take")
    parser.add_argument("--model", default="135M", choices=list(SHAPES), help="of the panels that vary something else")
    parser.add_argument("--precisions", nargs="+", default=list(COLOURS), choices=list(COLOURS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=Path("growth.json"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "growth.svg")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(Point(**json.loads(args.point)))))
        return
    results = collect(args)
    draw(results, args)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
