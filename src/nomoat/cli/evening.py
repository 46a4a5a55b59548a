"""``nomoat evening [ROWS] --base BASE --name NAME``: the whole way, with a receipt at the end; ``--resume [NAME]``."""

from __future__ import annotations

import argparse
from collections.abc import Generator

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.judge import print_result
from nomoat.cli.render import finished
from nomoat.core.amounts import duration, size
from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Record
from nomoat.evening import EveningOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rows",
        nargs="?",
        metavar="ROWS",
        default=argparse.SUPPRESS,
        help="your examples: a file, a folder, or a data set's name [the built-in text-to-SQL example]",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="NAME",
        help="go on with an evening that was stopped: the one that makes NAME, or the latest; the end may be new",
    )
    add_flags(parser, EveningOptions, group="the evening", skip=("rows",))


def run(args: argparse.Namespace, env: Environment) -> int:
    done = finished(_records(args, env), env, json_lines=args.json)
    if not args.json:
        _print_summary(done, env)
    return 0


def _records(args: argparse.Namespace, env: Environment) -> Generator[Record]:
    from nomoat.evening import evening, resume_evening

    options = read_flags(args, EveningOptions)
    if args.resume is None:
        return evening(options, env.store)
    if options != EveningOptions(minutes=options.minutes, finish_by=options.finish_by):
        raise UsageError(
            "an evening goes on with its own options; only --minutes and --finish-by may be new",
            hint=f"nomoat evening --resume {args.resume}".strip(),
        )
    return resume_evening(args.resume, env.store, minutes=options.minutes, finish_by=options.finish_by)


def _print_summary(done: Done, env: Environment) -> None:
    judgement, tuned = done.result["judgement"], done.result["tune"]
    print_result(judgement, env, failures=0)
    predicted = f", predicted {duration(tuned['predicted']['seconds'])}" if tuned["predicted"] else ""
    env.print(
        f"training took {duration(tuned['seconds'])}{predicted}; "
        f"{tuned['tokens_per_second']:.0f} tokens/s, {size(tuned['peak_bytes'])} of memory at most"
    )
    env.print(f"\nreceipt  {done.path}\nnow      nomoat chat {judgement['model']}")
