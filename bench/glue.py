"""Compiled glue and attention against their PyTorch twins, forward and backward, interleaved in one process.

    python bench/glue.py [--threads 1] [--rounds 7]

Times are the best of the rounds, on the shapes of three models at 1,024 packed tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from nomoat.kernels import native
from nomoat.kernels.attention import packed_attention
from nomoat.kernels.glue import add_norm, gated, rotary

TOKENS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    name: str
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    activation: str = "silu"
    window: int | None = None


MODELS = (
    Model("SmolLM2-135M", 576, 1536, 9, 3, 64),
    Model("Qwen2.5-0.5B", 896, 4864, 14, 2, 64),
    Model("Gemma-3-270M", 640, 2048, 4, 1, 256, "gelu_tanh", 512),
)
DOCUMENTS = {"short": (60, 200, 130, 90, 144, 100, 180, 120), "one": (TOKENS,), "one of 2048": (2 * TOKENS,)}

Work = Callable[[], None]


def works(model: Model) -> dict[str, Work]:
    """Each operation's forward and backward by name."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    x, added, weight = leaf(TOKENS, model.width), leaf(TOKENS, model.width), torch.ones(model.width)
    gate, up = leaf(TOKENS, model.inner), leaf(TOKENS, model.inner)
    q = leaf(TOKENS, model.heads, model.head)
    angles = torch.randn(TOKENS, 1, model.head // 2, generator=generator)
    cos, sin = angles.cos(), angles.sin()
    named: dict[str, Work] = {
        "add + norm": lambda: _both(*add_norm(x, added, 1.0, weight, 1e-6)),
        "rotary of q": lambda: _both(rotary(q, cos, sin)),
        "gated": lambda: _both(gated(gate, up, model.activation)),
    }
    for name, lengths in DOCUMENTS.items():
        total = sum(lengths)
        qkv = [leaf(total, n, model.head) for n in (model.heads, model.kv_heads, model.kv_heads)]
        named[f"attention, {name}"] = _attention(model, qkv, lengths)
    return named


def _attention(model: Model, qkv: list[Tensor], lengths: tuple[int, ...]) -> Work:
    return lambda: _both(packed_attention(*qkv, lengths, scale=model.head**-0.5, window=model.window))


def _both(*outs: Tensor) -> None:
    torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])


def seconds(work: Work, kernels: str) -> float:
    os.environ["NOMOAT_KERNELS"] = kernels
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{native.status()}, {options.threads} threads; milliseconds forward and backward, best of {options.rounds}")
    print(f"{'':14} {'':22} {'compiled':>9} {'PyTorch':>9} {'ratio':>6}")
    for model in MODELS:
        for name, work in works(model).items():
            best = {"": float("inf"), "reference": float("inf")}
            for _ in range(options.rounds):
                best = {kernels: min(least, seconds(work, kernels)) for kernels, least in best.items()}
            ours, twin = best[""] * 1e3, best["reference"] * 1e3
            print(f"{model.name:14} {name:22} {ours:9.2f} {twin:9.2f} {twin / ours:6.2f}")


if __name__ == "__main__":
    main()
