"""``nomoat judge MODEL --data NAME``: did it help? Before and after on the same held-out rows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_facts, print_table
from nomoat.core.amounts import counted
from nomoat.judge.options import JudgeOptions, TaskOptions

_LONGEST_LINE = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the options of a judgement, and how many failures to list."""
    parser.add_argument("--failures", type=int, default=3, metavar="N", help="list N answers that are wrong [3]")
    add_flags(parser, JudgeOptions, inputs=("model",))
    add_flags(parser, TaskOptions, group="tasks of lm-evaluation-harness", skip=("model", "limit", "max_batch", "seed"))


def run(args: argparse.Namespace, env: Environment) -> int:
    """Judge, and print the table, the verdict and the failures; with ``--tasks``, a line for every metric."""
    if "tasks" in args:
        return _run_tasks(args, env)
    from nomoat.judge.compare import judge

    done = finished(judge(read_flags(args, JudgeOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_result(done.result, env, failures=max(0, args.failures))
        env.print(f"\nevery row: {done.path}")
    return 0


def _run_tasks(args: argparse.Namespace, env: Environment) -> int:
    from nomoat.judge.tasks import run_tasks

    done = finished(run_tasks(read_flags(args, TaskOptions), env.store), env, json_lines=args.json)
    if not args.json:
        print_tasks(done.result, env)
    return 0


def print_tasks(result: Mapping[str, Any], env: Environment) -> None:
    """A line for every metric: the model, the other one, and the paired difference."""
    from nomoat.judge.units import chance

    def bounds(each: Mapping[str, float]) -> str:
        return f"{each['value']:.4f} ({each['low']:.4f} to {each['high']:.4f})"

    columns = ["task", "metric", "rows", result["model"]]
    columns += [result["against"], "difference, 95 % interval", "adjusted", "verdict"] if result["against"] else []
    rows = []
    for line in result["lines"]:
        cells = [line["task"], line["metric"], f"{line['rows']:,}", bounds(line["value"])]
        compared = line["comparison"]
        if compared is not None:
            cells += [bounds(compared["before"]), bounds(compared["difference"])]
            cells += [chance(line["adjusted_p"]), compared["verdict"]]
        rows.append(cells)
    print_table(env, columns, rows)
    plans = [line["plan"] for line in result["lines"] if line["plan"] is not None]
    if plans:
        env.print(f"\n{min(plans, key=lambda plan: plan['rows'])['sentence']}")


def print_result(result: Mapping[str, Any], env: Environment, *, failures: int) -> None:
    """The table, the verdict in words, and some of the answers that are wrong."""
    from nomoat.judge.sentences import headline

    compared = [result[key] for key in ("answers", "loss") if result[key] is not None]
    compared += result["forgetting"]["parts"] if result["forgetting"] else []
    print_table(env, ("measure", "before", "after", "difference, 95 % interval", "verdict"), _lines(compared))
    said = headline(result)
    env.print(f"\n{said.word}: {said.sentence}.\n{said.detail}")
    if result["counts"] is not None:
        env.print(_planned(result))
    if result["forgetting"]:
        env.print(f"elsewhere: {result['forgetting']['verdict']} (let pass: {result['forgetting']['allowed']})")
    _print_failures(result, env, failures)


def _lines(compared: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    from nomoat.judge.sentences import change, estimate

    lines = []
    for each in compared:
        before, after, gap = estimate(each, "before"), estimate(each, "after"), change(each)
        shown = [f"{side.value} ({side.interval})" for side in (before, after, gap)]
        lines.append([each["measure"], *shown, each["verdict"]])
    return lines


def _planned(result: Mapping[str, Any]) -> str:
    """What so many rows can show."""
    from nomoat.judge.planner import plan_rows

    changed = result["counts"]["fixed"] + result["counts"]["broken"]
    return plan_rows(result["rows"], changed / result["rows"]).sentence


def _print_failures(result: Mapping[str, Any], env: Environment, most: int) -> None:
    """Broken answers first, then the ones that stayed wrong; for losses, the rows that got worse most."""
    wrong, what = _failures(result)
    if not wrong or not most:
        return
    env.print(f"\n{what}: {len(wrong):,} of {counted(result['rows'], 'row')}; {min(most, len(wrong))} of them")
    for outcome in wrong[:most]:
        env.print("")
        print_facts(env, _facts(outcome))


def _failures(result: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str]:
    outcomes: list[Mapping[str, Any]] = result["outcomes"]
    if result["counts"] is None:
        worse = [outcome for outcome in outcomes if outcome["loss_after"] > outcome["loss_before"]]
        return sorted(
            worse, key=lambda outcome: outcome["loss_before"] - outcome["loss_after"]
        ), "less likely than before"
    wrong = [outcome for outcome in outcomes if not outcome["correct_after"]]
    return sorted(wrong, key=lambda outcome: not outcome["correct_before"]), "wrong after"


def _facts(outcome: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(f"row {outcome['row'] + 1}", _short(outcome["prompt"]))]
    if outcome["correct_after"] is None:
        return [*facts, ("loss", f"{outcome['loss_before']:.3f} before, {outcome['loss_after']:.3f} after")]
    right = "right" if outcome["correct_before"] else "wrong"
    return [
        *facts,
        ("expected", _short(outcome["expected"])),
        (f"before ({right})", _short(outcome["before"])),
        ("after (wrong)", _short(outcome["after"])),
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else text[:_LONGEST_LINE] + " ..."
