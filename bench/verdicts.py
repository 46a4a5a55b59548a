"""Verdicts on pairs of answers, both orders: nomoat's judge against llama-server, same model file, same prompts.

    python bench/verdicts.py PAIRS --model qwen05 --verdicts 1000           # llama-server, built here once
    python bench/verdicts.py PAIRS --model smollm2 --verdicts 40 --peer xllamacpp

A verdict is a prompt read and one token drawn; llama-server gets eight at a time, as in ``bench/serve.py``, and may use
its prompt cache: all prompts begin alike. Rounds are interleaved, each on pairs of its own. Every peer stays loaded.
``pip install -e '.[dev]'``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE / "peers")]

import torch  # noqa: E402
from serve import SEQUENCES, Peer, llama_server  # noqa: E402

import models  # noqa: E402
from nomoat.core.store import Store  # noqa: E402
from nomoat.data.preferences import read_preferences  # noqa: E402
from nomoat.engine.names import open_base  # noqa: E402
from nomoat.judge.examine import readable  # noqa: E402
from nomoat.judge.examinee import reads_of  # noqa: E402
from nomoat.judge.measure import Subject  # noqa: E402
from nomoat.judge.pairwise import Pair, model_judge, question, verdicts  # noqa: E402
from nomoat.model.template import prompt_ids  # noqa: E402


def judged(subject: Subject, pairs: list[Pair]) -> float:
    """Seconds for verdicts on all pairs."""
    began = time.perf_counter()
    for _ in verdicts(model_judge(subject), pairs):
        pass
    return time.perf_counter() - began


def asked(peer: Peer, subject: Subject, pairs: list[Pair]) -> float:
    """Seconds of the peer for the same prompts."""
    turned = [*pairs, *(pair.swapped() for pair in pairs)]
    prompts = [prompt_ids(subject.base.tokenizer, subject.base.template, question(pair)) for pair in turned]
    parts = [prompts[at : at + SEQUENCES] for at in range(0, len(prompts), SEQUENCES)]
    return sum(float(peer.run(part, [[]] * len(part), 1)["seconds"]) for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", help="labelled pairs: any file that `nomoat exam` reads")
    parser.add_argument("--model", default="smollm2", choices=sorted(models.PACKAGES))
    parser.add_argument("--peer", default="llama-server", help="llama-server (built), xllamacpp, or a binary's path")
    parser.add_argument("--verdicts", type=int, default=1000, help="over all rounds; a pair takes two")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    store = Store()
    subject = Subject(open_base(store, str(models.path(args.model))), (), "judge", store)
    labelled, _ = readable(read_preferences(args.pairs), reads_of(subject), args.verdicts // 2)
    pairs = [Pair(each.messages, each.chosen, each.rejected) for each in labelled]
    engine = str(llama_server()) if args.peer == "llama-server" else args.peer
    command = [sys.executable, str(HERE / "peers" / "llama_serve.py"), engine, str(models.path(args.model))]
    peer = Peer(args.peer, [*command, str(args.threads), "--cache"])
    size = -(-len(pairs) // args.rounds)
    ours: list[float] = []
    theirs: list[float] = []
    for at in range(0, len(pairs), size):
        part = pairs[at : at + size]
        ours.append(2 * len(part) / judged(subject, part))
        theirs.append(2 * len(part) / asked(peer, subject, part))
        print(f"round {len(ours)}: {ours[-1]:.2f} and {theirs[-1]:.2f} verdicts/s", file=sys.stderr)
    peer.close()
    ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, theirs))
    print("| verdicts/s | nomoat | " + args.peer + " | ratio, round by round |\n|---|---|---|---|")
    print(f"| {args.model} | {statistics.median(ours):.2f} | {statistics.median(theirs):.2f} | {ratios} |")


if __name__ == "__main__":
    main()
