"""``nomoat show NAME --history``: each skill of an adapter over the generations that led to it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from nomoat.cli.environment import Environment
from nomoat.cli.tables import print_table
from nomoat.core.amounts import size
from nomoat.core.artefacts import locate
from nomoat.stack.history import draw_history, generations, skills_of


def show_history(args: argparse.Namespace, env: Environment) -> int:
    """Print a line a generation, and draw them where a file is named."""
    history = generations(env.store, locate(env.store, args.name))
    if args.json:
        values = [dataclasses.asdict(each) for each in history]
        env.print(json.dumps({"record": "history", "generations": values}, ensure_ascii=False))
    else:
        skills = skills_of(history)
        rows = [
            [each.name, each.made, size(4 * each.parameters), str(each.rank or "")]
            + [f"{each.losses[skill]:.4f}" if skill in each.losses else "" for skill in skills]
            for each in history
        ]
        print_table(env, ("adapter", "made", "size", "rank", *skills), rows)
        env.print("(held-out loss in nats a token)")
    if args.plot:
        draw_history(history, Path(args.plot))
        env.say(f"saved picture: {args.plot}")
    return 0
