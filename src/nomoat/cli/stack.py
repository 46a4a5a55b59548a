"""``nomoat stack A B:0.5 --name BOTH``: several adapters into one, exactly or by a method."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import render
from nomoat.core.errors import UsageError
from nomoat.core.records import Done
from nomoat.stack.options import CombineOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapters, where they come from, what becomes of them."""
    parser.add_argument("adapters", nargs="*", metavar="ADAPTER[:WEIGHT]", help="adapters by name or path: a b:0.5")
    parser.add_argument("--base", default="", metavar="BASE", help="their base, if no adapter names one that is here")
    parser.add_argument("--config", metavar="FILE", help="a recipe in mergekit's YAML instead of adapters and options")
    parser.add_argument("--name", default="", metavar="NAME", help="the name of the new adapter")
    parser.add_argument("--replace", action="store_true", help="replace an adapter of that name")
    add_flags(parser, CombineOptions, group="the combination")


def run(args: argparse.Namespace, env: Environment) -> int:
    """Combine, and print where it is and what it cost."""
    from nomoat.stack.job import open_parts, stack

    words, base, densities, fixed = _asked(args)
    if not args.name:
        raise UsageError("--name is missing: what is the new adapter called?", hint="nomoat stack A B --name BOTH")
    options = read_flags(args, CombineOptions, **fixed)
    records = stack(
        open_parts(env.store, words, base), options, env.store, name=args.name, replace=args.replace,
        densities=densities,
    )  # fmt: skip
    done = render(records, env, json_lines=args.json)
    if done is not None and not args.json:
        env.print(result_lines(done))
    return 0


def _asked(args: argparse.Namespace) -> tuple[list[str], str, tuple[float | None, ...], dict[str, Any]]:
    """Adapters, base, densities and options: of the command line, or of a file, whose options the flags overrule."""
    from nomoat.stack.recipe import read_recipe

    if not args.config:
        return args.adapters, args.base, (), {}
    if args.adapters:
        raise UsageError("--config names the adapters; leave them out of the command line")
    recipe = read_recipe(Path(args.config))
    fixed = {key: value for key, value in recipe.options.items() if key not in vars(args)}
    return list(recipe.adapters), args.base or recipe.base, recipe.densities, fixed


def result_lines(done: Done) -> str:
    """Where the adapter is, its ranks, what compression kept, size and licence."""
    result = done.result
    lines = [
        str(done.path),
        f"rank     {result['rank_before']} -> {result['highest_rank']} at most, {len(result['modules'])} modules",
        f"kept     {result['kept_energy']:.4%} of the energy",
        f"size     {result['adapter_parameters'] / 1e6:.2f} M parameters",
        f"licence  {result['licence']}",
    ]
    return "\n".join(lines)
