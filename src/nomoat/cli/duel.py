"""``nomoat duel A B --data QUESTIONS --judge JUDGE --pairs LABELLED``: whose answers are better?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.exam import print_exam
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.judge.verdict_options import DuelOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A, B and the options of a duel."""
    add_flags(parser, DuelOptions, inputs=("model_a", "model_b"))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Let them answer, judge, and print the exam and the win rate. Ends with 1 where the rate is withheld."""
    from nomoat.judge.duel import duel

    done = finished(duel(read_flags(args, DuelOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_exam(done.result["exam"], env)
        print_duel(done.result, env)
    return 1 if done.result["duel"]["withheld"] else 0


def print_duel(result: Mapping[str, Any], env: Environment) -> None:
    """Counts, and the win rates with their intervals, or why there are none."""
    from nomoat.judge.units import share

    found = result["duel"]
    env.print(
        f"\n{result['model_a']} against {result['model_b']}, {result['questions']:,} questions of {result['data']}"
    )
    if found["withheld"]:
        env.print(f"withheld: {found['withheld']}")
        return
    env.print(f"{found['wins']} won, {found['ties']} tied, {found['losses']} lost")
    rows = []
    for name in ("rate", "length_controlled", "corrected"):
        rate = found[name]
        rows.append([_WORDS[name], share(rate["value"]), f"{share(rate['low'])} to {share(rate['high'])}"])
    print_table(env, ("share of wins", "", "95 % interval"), rows)


_WORDS = {
    "rate": "as judged",
    "length_controlled": "at equal length",
    "corrected": "corrected for the judge's errors",
}
