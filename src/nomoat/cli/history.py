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
from nomoat.core.files import disk_errors
from nomoat.stack.history import courses, draw_history, generations


def show_history(args: argparse.Namespace, env: Environment) -> int:
    """Print a line a generation and a line a skill, and draw them where a file is named."""
    history = generations(env.store, locate(env.store, args.name))
    if args.plot:
        picture = Path(args.plot).expanduser()
        with disk_errors(picture):
            draw_history(history, picture)
        env.say(f"saved picture: {args.plot}")
    if args.json:
        generation_values = [dataclasses.asdict(each) for each in history]
        skill_values = [dataclasses.asdict(each) for each in courses(history)]
        record = {"record": "history", "generations": generation_values, "skills": skill_values}
        env.print(json.dumps(record, ensure_ascii=False))
        return 0
    rows = [[each.name, each.made, size(4 * each.parameters), str(each.rank or "")] for each in history]
    print_table(env, ("adapter", "made", "size", "rank"), rows)
    skills = [
        [each.skill, f"{each.first:.4f}", f"{each.worst:.4f}", each.worst_at, f"{each.last:.4f}"]
        for each in courses(history)
    ]
    if skills:
        env.print("\nheld-out loss, nats a token:\n")
        print_table(env, ("data set", "first", "worst", "at", "last"), skills)
    return 0
