"""``nomoat exam JUDGE PAIRS``: may this judge's numbers be shown?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.judge.verdict_options import ExamOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """JUDGE, PAIRS and the options of an exam."""
    add_flags(parser, ExamOptions, inputs=("judge", "pairs"))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Examine, and print a line for every part. Ends with 1 where the judge failed."""
    from nomoat.judge.examine import examine

    done = finished(examine(read_flags(args, ExamOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_exam(done.result, env)
    return 0 if done.result["passed"] else 1


def print_exam(result: Mapping[str, Any], env: Environment) -> None:
    """The parts as a table, and what to do where one failed."""
    from nomoat.judge.units import share

    rows = []
    for part in result["parts"]:
        bounds = f"{share(part['share']['low'])} to {share(part['share']['high'])}"
        passed = "passed" if part["passed"] else "failed"
        rows.append(
            [part["name"], f"{share(part['share']['value'])} ({bounds})", part["needed"], passed, part["summary"]]
        )
    print_table(env, ("part", "share, 95 % interval", "needed", "", "what"), rows)
    if result.get("votes"):
        found = result["votes"]["share"]
        env.print(
            f"\nit agrees with {share(found['value'])} ({share(found['low'])} to {share(found['high'])}) of "
            f"{result['votes']['settled']:,} votes in {result['votes']['arena']}; on "
            f"{result['votes']['votes'] - result['votes']['settled']:,} more it cannot decide"
        )
    if result.get("voters"):
        found = result["voters"]["share"]
        env.print(
            f"\nthe voters agree with each other on {share(found['value'])} ({share(found['low'])} to "
            f"{share(found['high'])}) of {result['voters']['questions']:,} questions in common"
        )
    failed = [part for part in result["parts"] if not part["passed"]]
    env.print("\nthe judge passed" if not failed else "\nthe judge failed: its numbers are withheld")
    for part in failed:
        env.print(f"  {part['name']}: {part['remedy']}")
