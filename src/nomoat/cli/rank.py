"""``nomoat rank ANSWERS --data QUESTIONS --judge JUDGE --pairs LABELLED``: many models in one table of ratings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.exam import print_exam
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.judge.verdict_options import RankOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """ANSWERS and the options of a ranking."""
    add_flags(parser, RankOptions, inputs=("answers",))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Rate, and print the exam and the ratings. Ends with 1 where they are withheld."""
    from nomoat.judge.rank import rank

    done = finished(rank(read_flags(args, RankOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_rank(done.result, env)
    return 1 if done.result["withheld"] else 0


def print_rank(result: Mapping[str, Any], env: Environment) -> None:
    """Ratings with intervals, and win rates against a baseline where the judgments have one."""
    from nomoat.judge.units import share

    if result["exam"] is not None:
        print_exam(result["exam"], env)
    env.print(f"\n{result['battles']:,} comparisons")
    if result["withheld"]:
        env.print(f"withheld: {result['withheld']}")
        return
    planted = result["simulation"]["planted"] if result["simulation"] else {}
    rows = [
        [each["model"], f"{each['value']:.0f}", f"{each['low']:.0f} to {each['high']:.0f}", f"{each['battles']:g}"]
        + ([f"{planted[each['model']]:.0f}"] if planted else [])
        for each in result["ratings"]
    ]
    print_table(env, ("model", "rating", "95 % interval", "comparisons", *(["planted"] if planted else [])), rows)
    if result["simulation"] is not None:
        _print_simulation(result["simulation"], env)
    close = sum(each["low"] <= 0 for each in result["neighbours"])
    if close:
        env.print(f"\n{close} of {len(result['neighbours'])} neighbours cannot be told apart: judge more pairs.")
    if result["against"]:
        lines = [_against(each, share) for each in result["against"]]
        env.print("")
        print_table(env, ("model", "wins against", "as judged", "95 %", "at equal length", "95 %"), lines)


def _print_simulation(found: Mapping[str, Any], env: Environment) -> None:
    """How well drawn verdicts told the strengths behind them."""
    ranks = found["correlation"]
    env.print(
        f"\nSimulated: {found['inside']} of {len(found['planted'])} planted strengths lie in their intervals, rank "
        f"correlation {ranks['value']:.2f} ({ranks['low']:.2f} to {ranks['high']:.2f}); {found['told_apart']} of "
        f"{found['pairs']} pairs of models told apart, {found['told_wrongly']} of them the wrong way round."
    )


def _against(each: Mapping[str, Any], share: Any) -> list[str]:
    cells = [each["model"], each["baseline"]]
    for name in ("rate", "length_controlled"):
        found = each[name]
        cells += [share(found["value"]), f"{share(found['low'])} to {share(found['high'])}"]
    return cells
