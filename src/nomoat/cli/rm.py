"""``nomoat rm NAME``: delete one artefact of the store, after asking."""

from __future__ import annotations

import argparse
import json

from nomoat.cli.environment import Environment
from nomoat.core.amounts import size
from nomoat.core.artefacts import Artefact, descendants, locate, size_bytes
from nomoat.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an artefact: scribe, or adapters/scribe")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="even if other artefacts were made from it")


def run(args: argparse.Namespace, env: Environment) -> int:
    artefact = locate(env.store, args.name)
    children = descendants(env.store, artefact)
    if children and not args.force:
        names = ", ".join(each.spec for each in children)
        raise UsageError(
            f"{artefact.spec} is what {names} {'was' if len(children) == 1 else 'were'} made from",
            hint=f"nomoat rm {children[0].spec} first, or pass --force",
        )
    if not args.yes and not _agrees(artefact, env):
        env.say("kept")
        return 1
    freed = size_bytes(artefact)
    env.store.remove(artefact.kind, artefact.name)
    if args.json:
        env.print(json.dumps({"record": "removed", "artefact": artefact.spec, "size_bytes": freed}))
    else:
        env.say(f"removed {artefact.spec}, {size(freed)}" + _about_link(artefact))
    return 0


def _agrees(artefact: Artefact, env: Environment) -> bool:
    if not env.stdin.isatty():
        raise UsageError(f"{artefact.spec} would be deleted for good", hint="pass --yes to do it")
    env.say(f"delete {artefact.spec} ({size(size_bytes(artefact))}) for good? [y/N] ", end="")
    return env.stdin.readline().strip().lower() in ("y", "yes")


def _about_link(artefact: Artefact) -> str:
    linked = artefact.lineage.details.get("path") if artefact.lineage else None
    return f"; the linked {linked} stays where it is" if linked else ""
