"""``nomoat evening [ROWS] --base BASE --name NAME``: the whole way, with a receipt at the end."""

from __future__ import annotations

import argparse

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import duration, render, size
from nomoat.core.errors import UsageError
from nomoat.core.records import Done
from nomoat.evening import EveningOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rows",
        nargs="?",
        metavar="ROWS",
        default=argparse.SUPPRESS,
        help="your examples: a file, a folder, or a data set's name [the built-in text-to-SQL example]",
    )
    add_flags(parser, EveningOptions, group="the evening", skip=("rows",))


def run(args: argparse.Namespace, env: Environment) -> int:
    from nomoat.evening import evening

    records = evening(read_flags(args, EveningOptions), env.store)
    try:
        done = render(records, env, json_lines=args.json)
    except KeyboardInterrupt as stop:
        records.throw(stop)  # handed back to where the work waits, it leaves a checkpoint and names the way on
        raise
    if done is None:
        raise UsageError("the evening ended without a result")
    if not args.json:
        env.print(_summary(done))
    return 0


def _summary(done: Done) -> str:
    from nomoat.judge.sentences import headline

    result, tune = done.result, done.result["tune"]
    lines = ["", result["verdict"].upper() + ": " + headline(result).text]
    loss = result["loss"]
    lines.append(f"held-out loss {loss['before']['value']:.4f} -> {loss['after']['value']:.4f}")
    if result["forgetting"]:
        lines += [f"{part['measure']}: {part['verdict']}" for part in result["forgetting"]["parts"]]
    predicted = f" (predicted {duration(tune['predicted']['seconds'])})" if tune["predicted"] else ""
    lines.append(f"training took {duration(tune['seconds'])}{predicted}, {size(tune['peak_bytes'])} at most")
    lines.append(f"receipt: {result['receipt']}")
    lines.append(f"now: nomoat chat {result['model']}")
    return "\n".join(lines)
