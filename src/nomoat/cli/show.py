"""``nomoat show NAME``: what one artefact is, where it comes from, and what was measured of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.history import show_history
from nomoat.cli.tables import print_facts
from nomoat.core.amounts import rounded, size
from nomoat.core.artefacts import SINGULAR, Artefact, descendants, locate, size_bytes
from nomoat.core.bases import is_model, looks_like_path, stored_model
from nomoat.core.errors import NotFound

_SHOWN_ELSEWHERE = ("path", "size_bytes", "sha256", "aliases", "architecture", "quantization", "parameters")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an artefact (scribe, adapters/scribe), or a path to a model")
    parser.add_argument("--history", action="store_true", help="of an adapter: each skill over its generations")
    parser.add_argument("--plot", metavar="FILE", help="with --history, also as a picture: history.png")


def run(args: argparse.Namespace, env: Environment) -> int:
    if args.history or args.plot:
        return show_history(args, env)
    path = Path(args.name).expanduser()
    if looks_like_path(args.name) and is_model(path):
        values = {"path": str(path.absolute()), "model": _model_values(path)}
        facts = [("model", str(path.absolute())), *_model_lines(path)]
    else:
        artefact = locate(env.store, args.name)
        values, facts = _artefact_values(artefact, env), _artefact_lines(artefact, env)
    if args.json:
        env.print(json.dumps({"record": "artefact", **values}, ensure_ascii=False))
    else:
        print_facts(env, facts)
    return 0


def _artefact_values(artefact: Artefact, env: Environment) -> dict[str, Any]:
    lineage = dataclasses.asdict(artefact.lineage) if artefact.lineage else {}
    model = _model_of(artefact)
    return {
        **lineage,
        "kind": artefact.kind,
        "name": artefact.name,
        "path": str(artefact.path),
        "size_bytes": size_bytes(artefact),
        "model": _model_values(model) if model else None,
        "made_from_it": [each.spec for each in descendants(env.store, artefact)],
    }


def _model_of(artefact: Artefact) -> Path | None:
    if artefact.kind not in ("bases", "models"):
        return None
    try:
        return stored_model(artefact.path)
    except NotFound:  # a link to a file that is gone still has a record worth showing
        return None


def _model_values(path: Path) -> dict[str, Any]:
    from nomoat.hub.facts import read_facts

    return dataclasses.asdict(read_facts(path))


def _model_lines(path: Path) -> list[tuple[str, str]]:
    from nomoat.hub.facts import read_facts

    facts = read_facts(path)
    lines = [
        ("title", facts.title),
        ("architecture", facts.architecture),
        ("quantization", facts.quantization),
        ("parameters", rounded(facts.parameters)),
        ("context", f"{facts.context_length:,} tokens" if facts.context_length else ""),
        ("chat template", "its own" if facts.has_chat_template else "none: nomoat's default is used"),
        ("file states", facts.licence),
    ]
    return [(name, value) for name, value in lines if value]


def _artefact_lines(artefact: Artefact, env: Environment) -> list[tuple[str, str]]:
    lines = [
        (SINGULAR[artefact.kind], artefact.name),
        ("path", str(artefact.path)),
        ("size", size(size_bytes(artefact))),
    ]
    model = _model_of(artefact)
    lineage = artefact.lineage
    if lineage is not None:
        parents = "\n".join(
            f"{parent.kind} {parent.name}" + (f"  sha256 {parent.sha256[:12]}" if parent.sha256 else "")
            for parent in lineage.parents
        )
        details = {key: value for key, value in lineage.details.items() if key not in _SHOWN_ELSEWHERE}
        linked = str(lineage.details.get("path", ""))
        lines += [
            ("licence", lineage.licence or "not recorded"),
            ("made", f"{lineage.created}  nomoat {lineage.nomoat_version}"),
            ("made from", parents),
            ("linked to", linked and (linked if model else f"{linked} (gone or changed)")),
            ("sha256", str(lineage.details.get("sha256", ""))),
            ("seed", "" if lineage.seed is None else str(lineage.seed)),
            ("options", _pairs(lineage.options)),
            ("metrics", _pairs(lineage.metrics)),
            ("details", _pairs(details)),
        ]
    if artefact.kind == "adapters":
        lines += _adapter_lines(artefact.path)
    lines.append(("made from it", ", ".join(each.spec for each in descendants(env.store, artefact))))
    if model is not None:
        lines += _model_lines(model)
    return [(name, value) for name, value in lines if value]


def _pairs(values: dict[str, Any]) -> str:
    """One ``name = value`` a line, leaving out what is empty."""
    return "\n".join(
        f"{key} = {value:.6g}" if isinstance(value, float) else f"{key} = {_short(value)}"
        for key, value in values.items()
        if value not in ("", None, [], {}, False)
    )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _adapter_lines(folder: Path) -> list[tuple[str, str]]:
    config_file = folder / "adapter_config.json"
    if not config_file.is_file():
        return []
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError:
        return [("adapter_config.json", "damaged: not JSON")]
    keys = ("peft_type", "r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "base_model_name_or_path")
    shown = {key: config[key] for key in keys if isinstance(config, dict) and config.get(key)}
    return [("adapter", _pairs(shown))]
