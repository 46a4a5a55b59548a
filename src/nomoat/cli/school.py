"""``nomoat school JUDGE PAIRS --name NAME``: a judge learns from labelled pairs; one exam, before and after."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.judge.verdict_options import SchoolOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """JUDGE, PAIRS and the options of the training."""
    add_flags(parser, SchoolOptions, inputs=("judge", "pairs"))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Teach, and print both exams beside each other. Ends with 1 where the judge fails the second one too."""
    from nomoat.judge.school import school

    done = finished(school(read_flags(args, SchoolOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_school(done.result, env)
    return 0 if done.result["after"]["passed"] else 1


def print_school(result: Mapping[str, Any], env: Environment) -> None:
    """A line for every part of the exam: before and after."""
    from nomoat.judge.units import share

    def cell(part: Mapping[str, Any]) -> str:
        found = part["share"]
        return f"{share(found['value'])} ({share(found['low'])} to {share(found['high'])})"

    rows = []
    for was, now in zip(result["before"]["parts"], result["after"]["parts"]):
        words = ["passed" if part["passed"] else "failed" for part in (was, now)]
        rows.append([was["name"], cell(was), words[0], cell(now), words[1], was["summary"]])
    print_table(env, ("part", "before, 95 % interval", "", "after", "", "what"), rows)
    found = result["agreement"]
    gap = found["difference"]
    env.print(
        f"\n{found['measure']}, the same {result['pairs']:,} pairs: {share(found['before']['value'])} before, "
        f"{share(found['after']['value'])} after, difference {share(gap['low'])} to {share(gap['high'])}: "
        f"{found['verdict']} ({found['why']})"
    )
    env.print("the judge passed" if result["after"]["passed"] else "the judge failed: its numbers stay withheld")
    env.print(f"\nagain: {result['again']}")
