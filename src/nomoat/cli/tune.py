"""``nomoat tune DATA --base BASE --name NAME [--sweep KEY=A,B]``, and ``nomoat tune --resume RUN``."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.core.amounts import duration, rounded, size
from nomoat.core.errors import UsageError
from nomoat.core.options import describe
from nomoat.core.records import Done, Record
from nomoat.train.options import TuneOptions
from nomoat.train.sweep_options import SweepOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="?", metavar="DATA", default=argparse.SUPPRESS, help="a data set's name, or a file of rows"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped: nomoat ls --kind runs")
    add_flags(parser, SweepOptions, group="several adapters at once, on one base in memory")
    add_flags(parser, TuneOptions, group="the tune", skip=("data",))


def run(args: argparse.Namespace, env: Environment) -> int:
    done = finished(_records(args, env), env, json_lines=args.json)
    if args.json:
        return 0
    if done.what == "sweep":
        _print_sweep(done, env)
    else:
        env.print(_prediction(done) if done.what == "plan" else _result(done))
    return 0


def _records(args: argparse.Namespace, env: Environment) -> Generator[Record]:
    from nomoat.train.sweep import go_on, sweep
    from nomoat.train.tune import tune

    asked = read_flags(args, SweepOptions)
    if args.resume is not None:
        if asked != SweepOptions():
            raise UsageError("--resume goes on with the adapters that the run has", hint="leave --sweep and --keep out")
        return go_on(args.resume, env.store, _given(args))
    if asked.sweep:
        return sweep(read_flags(args, TuneOptions), asked, env.store)
    return tune(read_flags(args, TuneOptions), env.store)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    names = {spec.name for spec in describe(TuneOptions)}
    return {key: value for key, value in vars(args).items() if key in names}


def _prediction(done: Done) -> str:
    plan = done.result
    lines = [
        f"time    {duration(plan['seconds'])}   ({duration(plan['low_s'])} to {duration(plan['high_s'])}, 8 in 10)",
        f"memory  {size(plan['peak_bytes'])}",
        f"disk    {size(plan['disk_bytes'])}",
        f"work    {plan['steps']} steps, {plan['epochs']:g} epochs, {plan['tokens']:,} tokens "
        f"at {plan['tokens_per_second']:.0f} a second",
    ]
    return "\n".join([*lines, *(f"to fit  {words}" for words in plan["gave_up"])])


def _print_sweep(done: Done, env: Environment) -> None:
    """A line for each adapter, then what all of them took."""
    result = done.result
    rows = []
    for line in result["members"]:
        after = line["held_out_loss_after"]
        kept = line["label"] == result["best"] or result["best"] is None
        rows.append(
            (
                "->" if kept else "",
                line["label"],
                f"{after:.4f}" if after is not None else "",
                f"{line['best_step']} of {line['steps']}",
                rounded(line["adapter_parameters"]),
            )
        )
    print_table(env, ("kept", "adapter", "held-out loss", "best step", "parameters"), rows)
    env.print(
        f"time    {duration(result['seconds'])}; {result['tokens_per_second']:.0f} tokens/s over all adapters\n"
        f"memory  {size(result['peak_bytes'])}"
    )


def _result(done: Done) -> str:
    result = done.result
    lines = [str(done.path)]
    if result["held_out_loss_after"] is not None:
        lines.append(f"loss    {result['held_out_loss_before']:.4f} -> {result['held_out_loss_after']:.4f} (held out)")
    predicted = f", predicted {duration(result['predicted']['seconds'])}" if result["predicted"] else ""
    lines.append(f"time    {duration(result['seconds'])}{predicted}")
    lines.append(f"memory  {size(result['peak_bytes'])}")
    return "\n".join(lines)
