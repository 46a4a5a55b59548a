"""``nomoat tune DATA --base BASE --name NAME``, and ``nomoat tune --resume RUN``."""

from __future__ import annotations

import argparse
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import render
from nomoat.core.amounts import duration, size
from nomoat.core.errors import UsageError
from nomoat.core.options import describe
from nomoat.core.records import Done
from nomoat.train.options import TuneOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="?", metavar="DATA", default=argparse.SUPPRESS, help="a data set's name, or a file of rows"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped: nomoat ls --kind runs")
    add_flags(parser, TuneOptions, group="the tune", skip=("data",))


def run(args: argparse.Namespace, env: Environment) -> int:
    from nomoat.train.tune import resume, tune

    if args.resume is not None:
        records = resume(args.resume, env.store, _given(args))
    else:
        records = tune(read_flags(args, TuneOptions), env.store)
    try:
        done = render(records, env, json_lines=args.json)
    except KeyboardInterrupt as stop:
        # It struck while we were drawing. Handed back to where the work waits, it leaves a checkpoint and comes out
        # as Interrupted, with the command that goes on.
        records.throw(stop)
        raise
    if done is None:
        raise UsageError("the tune ended without a result")
    if not args.json:
        env.print(_prediction(done) if done.what == "plan" else _result(done))
    return 0


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


def _result(done: Done) -> str:
    result = done.result
    lines = [str(done.path)]
    if result["held_out_loss_after"] is not None:
        lines.append(f"loss    {result['held_out_loss_before']:.4f} -> {result['held_out_loss_after']:.4f} (held out)")
    predicted = f", predicted {duration(result['predicted']['seconds'])}" if result["predicted"] else ""
    lines.append(f"time    {duration(result['seconds'])}{predicted}")
    lines.append(f"memory  {size(result['peak_bytes'])}")
    return "\n".join(lines)
