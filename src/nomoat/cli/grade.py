"""``nomoat grade MODEL --data QUESTIONS --judge JUDGE --pairs LABELLED [--rubric FILE]``: ratings by a rubric."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.exam import print_exam
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.judge.verdict_options import GradeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and the options of grading."""
    add_flags(parser, GradeOptions, inputs=("model",))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Rate, and print the exam and the mean ratings. Ends with 1 where they are withheld."""
    from nomoat.judge.grade import grade

    done = finished(grade(read_flags(args, GradeOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_exam(done.result["exam"], env)
        print_grades(done.result, env)
    return 1 if done.result["withheld"] else 0


def print_grades(result: Mapping[str, Any], env: Environment) -> None:
    """Mean ratings with intervals: over all, by turn, by category; and how the judge's compare with labels."""
    low, high = result["scale"]
    env.print(f"\n{result['model']}: {len(result['ratings']):,} answers of {result['data']}, rated {low} to {high}")
    if result["labels"] is not None:
        found = result["labels"]["correlation"]
        env.print(
            f"rank correlation with {result['labels']['answers']:,} labelled ratings: "
            f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
        )
    if result["withheld"]:
        env.print(f"withheld: {result['withheld']}")
        return
    rows = [
        [name, f"{mean['value']:.2f}", f"{mean['low']:.2f} to {mean['high']:.2f}"]
        for name, mean in result["means"].items()
    ]
    print_table(env, ("answers", "mean rating", "95 % interval"), rows)
