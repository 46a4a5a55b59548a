"""What quantizing costs: seconds for half a billion weights by type, searched for by numpy and by the compiled kernels.

    python bench/quantize.py
    python bench/quantize.py --only Q4_K Q6_K --threads 1

Weights are drawn from a heavy-tailed distribution, with an importance; both ways take turns, the quicker of --rounds
counts. Both write the same bytes, which is checked.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from nomoat.formats.fit import NUMPY
from nomoat.formats.quantize import WRITTEN, quantize
from nomoat.kernels.fit_native import search

ROWS, COLUMNS, HALF_A_BILLION = 512, 1024, 500_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=WRITTEN, default=["Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    rng = np.random.default_rng(0)
    weights = (rng.standard_t(5, (ROWS, COLUMNS)) * 0.02).astype(np.float32)
    importance = np.exp(rng.normal(0, 1, COLUMNS)).astype(np.float32)
    ways = {"numpy": NUMPY, "compiled": search()}
    print("| type | " + " | ".join(f"{way}, s for 0.5 B" for way in ways) + " | times |\n|---|---|---|---|")
    for type in args.only:
        best = dict.fromkeys(ways, float("inf"))
        written = {}
        for _ in range(args.rounds):
            for way, how in ways.items():
                start = time.perf_counter()
                written[way] = quantize(weights, type, importance, how)
                best[way] = min(best[way], time.perf_counter() - start)
        if not np.array_equal(written["numpy"], written["compiled"]):
            raise SystemExit(f"{type}: the two ways write different bytes")
        seconds = [best[way] / weights.size * HALF_A_BILLION for way in ways]
        print(f"| {type} | {seconds[0]:.0f} | {seconds[1]:.0f} | {seconds[0] / seconds[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
