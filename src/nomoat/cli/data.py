"""``nomoat data add PATH... --name NAME`` and ``nomoat data show NAME``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.core.errors import UsageError
from nomoat.data.add import AddOptions, Measure
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.rows import Row

if TYPE_CHECKING:
    from nomoat.model.load import Base

LEARNED_FROM, LEARNED_TO = "⟦", "⟧"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="add|show", required=True)
    add = actions.add_parser(
        "add",
        help="read files into a data set",
        description="Read files or folders, clean and split them. The files are not changed.",
        allow_abbrev=False,
    )
    add.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder of rows, tables or documents")
    add.add_argument("--base", metavar="BASE", help="also count tokens as this base does")
    add_flags(add, AddOptions, skip=("paths",))
    show = actions.add_parser(
        "show",
        help="look at rows, and at what is learned of them",
        description=f"Print rows of a data set. What is learned stands between {LEARNED_FROM} and {LEARNED_TO}.",
        allow_abbrev=False,
    )
    show.add_argument("name", metavar="NAME", help="a data set")
    show.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows [3]")
    show.add_argument("--split", choices=("train", "valid", "test"), default="train", help="of which part [train]")
    show.add_argument("--base", metavar="BASE", help="as this base's chat template and tokenizer render them")
    add_flags(show, EncodeOptions, group="with --base")
    for action in (add, show):
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print records as JSON lines on stdout"
        )


def run(args: argparse.Namespace, env: Environment) -> int:
    return _add(args, env) if args.action == "add" else _show(args, env)


def _add(args: argparse.Namespace, env: Environment) -> int:
    from nomoat.data.add import add
    from nomoat.data.report import Report, draw

    options = read_flags(args, AddOptions, paths=tuple(args.paths))
    done = finished(add(options, env.store, measure=_measure(args.base, env)), env, json_lines=args.json)
    if not args.json:
        env.print(draw(Report(**done.result)))
    return 0


def _measure(base_name: str | None, env: Environment) -> Measure | None:
    if base_name is None:
        return None
    from nomoat.data.encode import measure
    from nomoat.engine.names import open_base

    base = open_base(env.store, base_name)
    return lambda rows: measure(rows, base.name, base.tokenizer, base.template)


def _show(args: argparse.Namespace, env: Environment) -> int:
    from nomoat.data.load import load_rows

    if args.rows < 1:
        raise UsageError(f"--rows cannot be {args.rows}", hint="a number from 1")
    rows = load_rows(env.store.find("data", args.name), args.split)[: args.rows]
    if not rows:
        env.say(f"{args.name} has no {args.split} rows")
        return 0
    shown = _plain(rows) if args.base is None else _rendered(rows, args, env)
    for record in shown:
        if args.json:
            env.print(json.dumps({"record": "row", "split": args.split, **record}, ensure_ascii=False))
        else:
            _print_row(f"{args.split} {record['number']}", record, env)
    return 0


def _plain(rows: list[Row]) -> Iterable[dict[str, Any]]:
    """Rows without a base: which words are given and which are learned."""
    for number, row in enumerate(rows, start=1):
        if "text" in row:
            parts = [(row["text"], True)]
        elif "prompt" in row:
            parts = [(row["prompt"] + "\n", False), (row["completion"], True)]
        else:
            parts = [part for message in row["messages"] for part in _turn(message)]
        segments = [{"text": text, "learned": learned} for text, learned in parts]
        yield {"number": number, "row": row, "segments": segments}


def _turn(message: dict[str, Any]) -> list[tuple[str, bool]]:
    calls = message.get("tool_calls")
    said = message["content"] + (json.dumps(calls, ensure_ascii=False) if calls else "")
    return [(f"{message['role']}: ", False), (said, message["role"] == "assistant"), ("\n", False)]


def _rendered(rows: list[Row], args: argparse.Namespace, env: Environment) -> Iterable[dict[str, Any]]:
    """Rows as the base sees them under the options: a long text is several windows."""
    from nomoat.data.encode import encode_rows
    from nomoat.data.show import segments
    from nomoat.engine.names import open_base

    base: Base = open_base(env.store, args.base)
    encoded = encode_rows(rows, base.tokenizer, base.template, read_flags(args, EncodeOptions))
    for reason, count in encoded.dropped.items():
        env.say(f"{count} of these rows would be dropped: {reason}")
    for part, source in zip(encoded.rows, encoded.sources):
        yield {
            "number": source + 1,
            "row": rows[source],
            "tokens": len(part.ids),
            "learned": sum(part.loss_mask[1:]),
            "segments": [segment._asdict() for segment in segments(part, base.tokenizer)],
        }


def _print_row(title: str, record: dict[str, Any], env: Environment) -> None:
    from nomoat.data.report import visible

    counts = f"  {record['tokens']:,} tokens, {record['learned']:,} learned" if "tokens" in record else ""
    env.print(f"── {title}{counts}")
    texts = (
        f"{LEARNED_FROM}{segment['text']}{LEARNED_TO}" if segment["learned"] else segment["text"]
        for segment in record["segments"]
    )
    env.print(visible("".join(texts), keep="\n\t").rstrip("\n") + "\n")
