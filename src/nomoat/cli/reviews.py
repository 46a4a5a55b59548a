"""``nomoat reviews FOLDER --reference MODEL``: published reviews (Vicuna's format) recomputed with intervals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nomoat.cli.environment import Environment
from nomoat.cli.tables import print_table
from nomoat.core.errors import NotFound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FOLDER, and the model that is 100 %."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder of answer*.jsonl and review*.jsonl files")
    parser.add_argument("--reference", required=True, metavar="MODEL", help="the model that is 100 %%")


def run(args: argparse.Namespace, env: Environment) -> int:
    """Print every model's share of the reference's total, and what cannot be told from these reviews."""
    from nomoat.judge.reviews import never_swapped, read_reviews, relative, repeated
    from nomoat.judge.units import share

    reviews = read_reviews(Path(args.folder).expanduser())
    models = sorted({name for review in reviews for name in (review.first, review.second)})
    if args.reference not in models:
        raise NotFound(f"no review of {args.reference!r}", hint="reviewed: " + ", ".join(models))
    found = [relative(reviews, model, args.reference) for model in models if model != args.reference]
    found.sort(key=lambda each: -each.share.value)
    swapped = never_swapped(reviews)
    again = repeated(reviews, args.reference)
    if args.json:
        for each in found:
            env.print(json.dumps({"record": "share", "model": each.model, **each.share.as_dict(), "via": each.via}))
        return 0
    rows = [
        [
            each.model,
            share(each.share.value),
            f"{share(each.share.low)} to {share(each.share.high)}",
            each.via or "direct",
        ]
        for each in found
    ]
    print_table(env, ("model", f"of {args.reference}", "95 % interval", "compared"), rows)
    pairs = {frozenset((review.first, review.second)) for review in reviews}
    env.print(f"\n{len(swapped)} of {len(pairs)} pairs were shown in one order only:")
    env.print("what the place is worth and what the model is worth cannot be told apart there.")
    if len(again) > 1:
        env.print(
            f"The same answers of {args.reference} got {min(again):g} to {max(again):g} points beside different others."
        )
    return 0
