"""``nomoat stack A B:0.5 --name BOTH``: several adapters into one, exactly or by a method."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomoat.cli.environment import Environment
from nomoat.cli.flags import add_flags, read_flags
from nomoat.cli.render import finished
from nomoat.cli.stack_tables import print_report, print_search
from nomoat.core.amounts import rounded
from nomoat.core.errors import UsageError
from nomoat.core.records import Done, Record
from nomoat.stack.options import CombineOptions, SkillOptions

if TYPE_CHECKING:
    from nomoat.stack.job import OpenStack
    from nomoat.stack.skills import Scoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapters, where they come from, what becomes of them."""
    parser.add_argument("adapters", nargs="*", metavar="ADAPTER[:WEIGHT]", help="adapters by name or path: a b:0.5")
    parser.add_argument("--base", default="", metavar="BASE", help="their base, if no adapter names one that is here")
    parser.add_argument("--config", metavar="FILE", help="a recipe in mergekit's YAML instead of adapters and options")
    parser.add_argument("--name", default="", metavar="NAME", help="the name of the new adapter")
    parser.add_argument("--replace", action="store_true", help="replace an adapter of that name")
    parser.add_argument("--report", action="store_true", help="who is in whose way, what each skill keeps; no --name")
    parser.add_argument("--search", action="store_true", help="find weights that keep every skill; --name applies them")
    add_flags(parser, CombineOptions, group="the combination")
    add_flags(parser, SkillOptions, group="report and search")


def run(args: argparse.Namespace, env: Environment) -> int:
    """Report, search or combine, and print what came out."""
    from nomoat.stack.job import open_parts

    words, base, densities, fixed = _asked(args)
    if not args.name and not args.report and not args.search:
        raise UsageError("--name is missing: what is the new adapter called?", hint="nomoat stack A B --name BOTH")
    if args.report and (args.name or args.search):
        raise UsageError("--report only looks: it takes no --name and no --search")
    opened = open_parts(env.store, words, base)
    if args.report:
        return _report(opened, args, env)
    if args.search:
        opened = _searched(opened, args, env)
    return _combine(opened, densities, fixed, args, env) if args.name else 0


def _combine(
    opened: OpenStack,
    densities: tuple[float | None, ...],
    fixed: dict[str, Any],
    args: argparse.Namespace,
    env: Environment,
) -> int:
    from nomoat.stack.job import stack

    options = read_flags(args, CombineOptions, **fixed)
    records = stack(opened, options, env.store, name=args.name, replace=args.replace, densities=densities)
    done = finished(records, env, json_lines=args.json)
    if not args.json:
        env.print(result_lines(done))
    return 0


def _report(opened: OpenStack, args: argparse.Namespace, env: Environment) -> int:
    from nomoat.stack.report import report

    options = read_flags(args, SkillOptions)
    records = report(opened, options, env.store, _scoring(opened, options, env))
    done = finished(records, env, json_lines=args.json)
    if not args.json:
        print_report(done, env)
    return 0


def _scoring(opened: OpenStack, options: SkillOptions, env: Environment) -> Scoring | None:
    """By right answers, unless the loss is asked for."""
    from nomoat.judge.skill_scores import by_checks

    return by_checks(opened.base, env.store) if options.score == "check" else None


def _searched(opened: OpenStack, args: argparse.Namespace, env: Environment) -> OpenStack:
    """The stack at the weights that the search found, which are printed."""
    from nomoat.stack.search import search

    options = read_flags(args, SkillOptions)
    if options.grain != "adapter" and not args.name:
        raise UsageError(
            f"--name is missing: weights of grain {options.grain} are kept in a new adapter alone",
            hint="--name BOTH; or --grain adapter, whose weights can be typed: BASE+A:0.8+B:1.1",
        )
    found = [opened]

    def records() -> Generator[Record]:
        found.append((yield from search(opened, options, env.store, _scoring(opened, options, env))))

    done = finished(records(), env, json_lines=args.json)
    if not args.json:
        print_search(done, env)
    return found[-1]


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
        f"size     {rounded(result['adapter_parameters'])} parameters",
        f"licence  {result['licence']}",
    ]
    return "\n".join(lines)
