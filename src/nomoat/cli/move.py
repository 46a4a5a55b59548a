"""``nomoat move STACK --to NEWBASE``: a stack's skills to another base, with a gate."""

from __future__ import annotations

import argparse
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_facts, print_table
from nomoat.core.amounts import counted, duration, size
from nomoat.core.errors import SkillLost
from nomoat.core.records import Done
from nomoat.move.options import MoveOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """STACK, and the options of a move."""
    add_flags(parser, MoveOptions, inputs=("stack",))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Move, and print the table; raises ``SkillLost`` after it where a skill has not passed."""
    from nomoat.move.job import move

    done = finished(move(read_flags(args, MoveOptions), env.store), env, json_lines=args.json)
    if done.what == "plan":
        if not args.json:
            print_facts(env, _prediction(done.result))
        return 0
    if not args.json:
        _print_result(done, env)
    _refuse_lost(done.result)
    return 0


def _prediction(plan: dict[str, Any]) -> list[tuple[str, str]]:
    training = plan["training"]
    whole = f"{duration(plan['seconds'])}   ({duration(plan['low_s'])} to {duration(plan['high_s'])}, 8 in 10)"
    return [
        ("time", whole),
        ("answers", f"{duration(plan['answers_s'])}, {counted(plan['rows'], 'row')}"),
        *([("trial", f"{duration(plan['choice_s'])}, of two ways to learn")] if plan["choice_s"] else []),
        ("training", f"{duration(training['seconds'])}, {counted(training['steps'], 'step')}"),
        ("judge", duration(plan["judging_s"])),
        ("memory", size(training["peak_bytes"])),
    ]


def _print_result(done: Done, env: Environment) -> None:
    """A line for each skill: what four models do on the same rows, and what is kept of the old gain."""
    from nomoat.judge.sentences import change, estimate

    result = done.result
    sides = ("old_base", "old_stack", "new_base", "moved")
    lines = []
    for line in result["skills"]:
        levels = [estimate({**line, "unit": line["unit"]}, side).value for side in sides]
        gap, kept = change(line["difference"]), line["kept"]
        share = "no gain to keep" if kept["value"] is None else f"{kept['value']:.1%}"
        bounds = "" if kept["low"] is None else f" ({kept['low']:.1%} to {kept['high']:.1%})"
        passed = "yes" if line["passed"] else "NO"
        lines.append(
            [line["skill"], str(line["rows"]), *levels, f"{gap.value} ({gap.interval})", share + bounds, passed]
        )
    heads = ("skill", "rows", "old base", "old stack", "new base", "moved", "moved - old, 95 %", "kept, 95 %", "passed")
    print_table(env, heads, lines)
    env.print(f"\nadapter  {done.path}\nevery row  {result['trial']}")
    if result["passed"]:
        env.print(f"talk to it  nomoat chat {result['base']}+{result['name']}")


def _refuse_lost(result: dict[str, Any]) -> None:
    lost = [line for line in result["skills"] if not line["passed"]]
    better = [line["skill"] for line in lost if line["beside_new_base"]["verdict"] == "worse"]
    faded = [line["skill"] for line in lost if line["skill"] not in better]
    told, mends = [], []
    if faded:
        told.append(f"{', '.join(faded)}: less than {result['keep']:.0%} of the old gain is kept on {result['base']}")
        mends.append("more rows or --epochs, a higher --rank, or --keep with a share that will do")
    if better:
        told.append(f"{', '.join(better)}: {result['base']} alone is better at it than with what was learned")
        mends.append(f"move the stack without the adapter that learned {' and '.join(better)}")
    if lost:
        apart = f"the adapter stays apart as {result['name']!r}, and the old stack is as it was"
        raise SkillLost("; ".join([*told, apart]), hint="; ".join(mends))
