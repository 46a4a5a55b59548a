"""Peak memory of training steps under each recompute policy, each in a process of its own.

    python bench/memory.py BASE.gguf [--tokens 1024] [--policies least mlp layer] [--steps 2]

``kept`` is what a forward pass leaves for backward; ``peak`` the process's resident set at its highest, and by how much
that is above what it was before the first step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
DOCUMENT = 128  # tokens of each packed document
LEARNED = 0.25  # of the tokens


def measure(base_path: str, tokens: int, policy: str, steps: int) -> dict[str, float]:
    """One process's work: bytes and seconds."""
    import torch

    from nomoat.kernels.memory import Pool
    from nomoat.model.adapters import AdapterConfig
    from nomoat.model.cache import Layout
    from nomoat.model.load import load_base
    from nomoat.model.recompute import POLICIES
    from nomoat.train.adamw import AdamW, AdamWOptions
    from nomoat.train.peak import PeakMemory, resident_bytes

    base = load_base(Path(base_path))
    adapter = base.new_adapter(AdapterConfig(rank=16), seed=0, name="a")
    base.decoder.choose_recompute(next(each for each in POLICIES if each == policy))
    optimizer = AdamW(adapter.parameters(), AdamWOptions())
    ids = torch.randint(3, 30_000, (tokens,), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(tokens) % DOCUMENT >= DOCUMENT * (1 - LEARNED)
    layout = Layout([min(DOCUMENT, tokens - i) for i in range(0, tokens, DOCUMENT)])
    before, kept, took = resident_bytes(), 0, 0.0
    with Pool(), PeakMemory() as peak:
        for _ in range(steps):
            start = time.perf_counter()
            loss = base.decoder.next_token_losses(ids, layout, mask, ((adapter, 1.0),)).nll.sum() / tokens
            kept = max(kept, resident_bytes() - before)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.update(1e-4)
            optimizer.zero_grad()
            took = time.perf_counter() - start
    return {"before": before, "kept": kept, "peak": peak.peak_bytes, "seconds": took, "loss": loss.item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--policies", nargs="+", default=["least", "mlp", "layer"])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.base, options.tokens, options.policies[0], options.steps)))
        return
    print(f"{'policy':8} {'before':>8} {'kept':>8} {'peak':>8}   GB; seconds of the last step")
    for policy in options.policies:
        command = [sys.executable, __file__, options.base, "--child", "--policies", policy]
        command += ["--tokens", str(options.tokens), "--steps", str(options.steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=None)
        got = json.loads(done.stdout.splitlines()[-1])
        sizes = " ".join(f"{got[key] / 1e9:8.2f}" for key in ("before", "kept", "peak"))
        print(f"{policy:8} {sizes}   {got['seconds']:.1f} s, loss {got['loss']:.6f}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE))
    main()
