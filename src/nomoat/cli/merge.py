"""``nomoat merge BASE+A:0.5+B --name NAME``: a stack folded into its base; ``--undo``: taken out again."""

from __future__ import annotations

import argparse

from nomoat.cli.environment import Environment
from nomoat.cli.render import finished
from nomoat.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, what becomes of it, and the type of the changed weights."""
    parser.add_argument("model", metavar="MODEL", help="base+scribe:0.8+sql; with --undo, a merged model")
    parser.add_argument("--name", required=True, metavar="NAME", help="the name of the new model")
    parser.add_argument("--undo", action="store_true", help="take the adapters out of a merged model")
    parser.add_argument("--dtype", default="", metavar="F32|BF16|F16", help="type of the changed weights [as stored]")
    parser.add_argument("--replace", action="store_true", help="replace a model of that name")


def run(args: argparse.Namespace, env: Environment) -> int:
    """Merge or unmerge, and print where it is."""
    from nomoat.stack.merge import merge
    from nomoat.stack.unmerge import unmerge

    dtype = args.dtype.upper()
    if dtype not in ("", "F32", "BF16", "F16"):
        raise UsageError(f"--dtype cannot be {args.dtype!r}", hint="one of: F32, BF16, F16")
    if args.undo:
        records = unmerge(args.model, env.store, name=args.name, replace=args.replace)
    else:
        records = merge(args.model, env.store, name=args.name, dtype=dtype, replace=args.replace)
    done = finished(records, env, json_lines=args.json)
    if not args.json:
        env.print(str(done.path))
        if done.what == "merge":
            env.print(f"merged    {done.result['modules']} matrices")
            env.print(f"rounding  {done.result['rounding']:.2e} of the update")
        else:
            env.print(f"restored  {done.result['restored']} of {done.result['tensors']} tensors to the bit")
            env.print(f"rounding  {done.result['off_at_most']:.2e} of the update at most")
    return 0
