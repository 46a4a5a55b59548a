"""``nomoat extract TUNED --base BASE --rank 32 --name NAME``: a tuned model as an adapter over its base."""

from __future__ import annotations

import argparse

from nomoat.cli.environment import Environment
from nomoat.cli.render import finished
from nomoat.cli.stack import result_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two models and how much to keep."""
    parser.add_argument("tuned", metavar="TUNED", help="the tuned model: a name, a GGUF file or a Hugging Face folder")
    parser.add_argument("--base", required=True, metavar="BASE", help="the base that it was tuned from")
    parser.add_argument("--name", required=True, metavar="NAME", help="the name of the adapter")
    parser.add_argument("--rank", type=int, default=32, metavar="N", help="rank of the adapter [32]")
    parser.add_argument(
        "--energy", type=float, default=0.0, metavar="SHARE", help="lower ranks where they keep this share: 0.99"
    )
    parser.add_argument("--replace", action="store_true", help="replace an adapter of that name")


def run(args: argparse.Namespace, env: Environment) -> int:
    """Extract, and print where it is and what it keeps."""
    from nomoat.stack.extract import extract

    records = extract(
        args.tuned, args.base, env.store, rank=args.rank, name=args.name, energy=args.energy, replace=args.replace
    )
    done = finished(records, env, json_lines=args.json)
    if not args.json:
        env.print(result_lines(done))
    return 0
