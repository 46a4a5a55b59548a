"""``nomoat ls``: what is in the home, or with ``--tree`` where one artefact comes from."""

from __future__ import annotations

import argparse
import json

from nomoat.cli.environment import Environment
from nomoat.cli.tables import print_table
from nomoat.core.amounts import size
from nomoat.core.artefacts import Ancestor, Artefact, all_artefacts, descent, locate, read_kind, size_bytes
from nomoat.core.errors import UsageError
from nomoat.core.store import KINDS, Kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", metavar="|".join(KINDS), help="list this kind only")
    parser.add_argument("--tree", metavar="NAME", help="print the whole descent of one artefact")


def run(args: argparse.Namespace, env: Environment) -> int:
    if args.tree is not None:
        _print_tree(args.tree, env, as_json=args.json)
        return 0
    artefacts = list(all_artefacts(env.store, _kind(args.kind)))
    if args.json:
        for each in artefacts:
            env.print(json.dumps({"record": "artefact", **_as_json(each)}, ensure_ascii=False))
    elif artefacts:
        rows = [(each.kind, each.name, _size(each), _date(each), _licence(each)) for each in artefacts]
        print_table(env, ("kind", "name", "size", "made", "licence"), rows)
    else:
        env.say(f"nothing in {env.store.home} yet. Start with: nomoat pull, or nomoat evening")
    return 0


def _kind(word: str | None) -> Kind | None:
    if word is None:
        return None
    kind = read_kind(word)
    if kind is None:
        raise UsageError(f"--kind cannot be {word!r}", hint="one of: " + ", ".join(KINDS))
    return kind


def _as_json(artefact: Artefact) -> dict[str, object]:
    lineage = artefact.lineage
    return {
        "kind": artefact.kind,
        "name": artefact.name,
        "path": str(artefact.path),
        "size_bytes": _model_bytes(artefact),
        "created": lineage.created if lineage else None,
        "licence": lineage.licence if lineage else None,
        "linked": lineage.details.get("path") if lineage else None,
    }


def _model_bytes(artefact: Artefact) -> int:
    """Bytes in the store; for a linked base those of the file it points to."""
    lineage = artefact.lineage
    if lineage is not None and "path" in lineage.details:
        return int(lineage.details.get("size_bytes", 0))
    return size_bytes(artefact)


def _size(artefact: Artefact) -> str:
    linked = artefact.lineage is not None and "path" in artefact.lineage.details
    return size(_model_bytes(artefact)) + (" (linked)" if linked else "")


def _date(artefact: Artefact) -> str:
    return artefact.lineage.created[:16].replace("T", " ") if artefact.lineage else ""


def _licence(artefact: Artefact) -> str:
    return artefact.lineage.licence if artefact.lineage else ""


def _print_tree(spec: str, env: Environment, *, as_json: bool) -> None:
    lines = list(descent(env.store, locate(env.store, spec)))
    for line, branch in zip(lines, _branches([line.depth for line in lines]), strict=True):
        if as_json:
            values = {"depth": line.depth, "kind": line.kind, "name": line.name, "sha256": line.sha256}
            known = {"here": line.artefact is not None, "above": line.above}
            env.print(json.dumps({"record": "ancestor", **values, **known}, ensure_ascii=False))
        else:
            env.print(branch + _told(line))


def _branches(depths: list[int]) -> list[str]:
    """What stands before each line of a tree that is told depth first: ``│`` where an earlier line has more to come."""
    found: list[str] = []
    open_at: set[int] = set()  # depths at which a line further down has the same parent
    for depth in reversed(depths):
        above = "".join("│  " if level in open_at else "   " for level in range(1, depth))
        found.append(above + ("├─ " if depth in open_at else "└─ ") if depth else "")
        open_at = {level for level in open_at if level < depth} | {depth}
    return found[::-1]


def _told(line: Ancestor) -> str:
    gone = "  (no longer here)" if line.artefact is None and read_kind(line.kind) else ""
    above = "  (made as above)" if line.above else ""
    sha256 = f"  sha256 {line.sha256[:12]}" if line.sha256 else ""
    made = f"  {_date(line.artefact)}" if line.artefact and line.artefact.lineage else ""
    licence = f"  {_licence(line.artefact)}" if line.artefact and _licence(line.artefact) else ""
    name = f"{line.kind}/{line.name}" if read_kind(line.kind) else f"from {line.name}"
    return f"{name}{sha256}{made}{licence}{gone}{above}"
