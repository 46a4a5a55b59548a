"""From what the stages of an evening said to the facts of its receipt."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import nomoat
from nomoat.core.amounts import size
from nomoat.core.errors import NotFound
from nomoat.core.files import sha256_file
from nomoat.core.machine import memory
from nomoat.core.records import Eval, Step
from nomoat.core.store import Lineage, Store, read_lineage
from nomoat.formats.peft import WEIGHTS
from nomoat.judge.facts import Command, Cost, Forecast, Ingredient, ReceiptFacts
from nomoat.kernels import native

_SHOWN_SETTINGS = (
    "rank", "alpha", "target_modules", "lr", "schedule", "epochs", "batch_size", "max_seq_len", "seed"
)  # fmt: skip
# Shown, and repeated in the command that makes it again, where they are not these.
_USUAL = {"top_layers": 0, "prefix_cache": "float32", "rehearse": 0, "precision": "float32"}


def account(
    name: str,
    store: Store,
    results: Mapping[str, Mapping[str, Any]],
    steps: Sequence[Step],
    evals: Sequence[Eval],
    seconds: Mapping[str, float],
    notes: Sequence[str],
) -> ReceiptFacts:
    """``results``: the ``Done`` values of the stages ``rows``, ``tune`` and ``after``; ``seconds`` by stage."""
    lineage = read_lineage(store.find("adapters", name))
    if lineage is None:
        raise NotFound(f"adapter {name!r} has no record of its making", hint=f"nomoat show {name}")
    tuned, judged = results["tune"], results["after"]
    predicted = tuned["predicted"] or {}
    return ReceiptFacts(
        name=name,
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        judged=judged,
        ingredients=_ingredients(lineage, store),
        kept=results["rows"].get("kept", {}),
        dropped=results["rows"].get("dropped", ()),
        settings=_settings(lineage.options),
        forecasts=_forecasts(tuned, predicted),
        gave_up=tuple(predicted.get("gave_up", ())),
        steps=steps,
        evals=evals,
        stages=seconds,
        cost=Cost(wall_s=sum(seconds.values()), cpu_s=_cpu_seconds(results)),
        machine=_machine(tuned["threads"]),
        versions={"nomoat": nomoat.__version__}
        | {package: version(package) for package in ("torch", "tokenizers")}
        | {"python": platform.python_version()},
        commands=_commands(name, judged, lineage),
        notes=notes,
    )


def _cpu_seconds(results: Mapping[str, Mapping[str, Any]]) -> float:
    """Processor time of the stages that count it: the others wait for the network or the disk."""
    return float(sum(result.get("cpu_seconds", 0.0) for result in results.values()))


def _ingredients(lineage: Lineage, store: Store) -> list[Ingredient]:
    made_from = [_ingredient(parent.kind, parent.name, parent.sha256, store) for parent in lineage.parents]
    weights = store.path("adapters", lineage.name) / WEIGHTS
    own = Ingredient(
        "adapter", lineage.name, sha256_file(weights), lineage.licence, weights.stat().st_size, "made here"
    )
    return [*made_from, own]


def _ingredient(kind: str, name: str, sha256: str, store: Store) -> Ingredient:
    folder = store.home / ("bases" if kind == "base" else "data") / name
    known = read_lineage(folder) if folder.is_dir() else None
    if known is None:
        return Ingredient(kind, name, sha256)
    sources = ", ".join(parent.name for parent in known.parents)
    return Ingredient(kind, name, sha256, licence=known.licence, source=sources)


def _settings(options: Mapping[str, Any]) -> dict[str, str]:
    chosen = {key: options[key] for key in _SHOWN_SETTINGS if options.get(key) is not None} | _unusual(options)
    return {key.replace("_", " "): _shown(value) for key, value in chosen.items()}


def _unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key, usual in _USUAL.items() if options.get(key, usual) != usual}


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _forecasts(tuned: Mapping[str, Any], predicted: Mapping[str, Any]) -> list[Forecast]:
    if not predicted:
        return []
    time_ = Forecast(
        "time to train", "s", predicted["seconds"], tuned["seconds"], predicted["low_s"], predicted["high_s"]
    )
    return [time_, Forecast("peak memory", "B", predicted["peak_bytes"], tuned["peak_bytes"])]


def _machine(threads: int) -> dict[str, str]:
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": f"{threads} of {os.cpu_count()}",
        "memory": size(memory().total_bytes),
        "kernels": native.status(),
    }


def _processor() -> str:
    """What the system calls its processor; Python alone does not know on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _commands(name: str, judged: Mapping[str, Any], lineage: Lineage) -> list[Command]:
    model = judged["model"]
    base = model.partition("+")[0]
    data = next((parent.name for parent in lineage.parents if parent.kind == "data"), "DATA")
    given = {key: lineage.options[key] for key in ("epochs", "rank", "lr", "seed")} | _unusual(lineage.options)
    same = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in given.items())
    return [
        Command("talk to it", f"nomoat chat {model}"),
        Command("ask it once", f'nomoat run {model} "..."'),
        Command("judge it again", f"nomoat judge {model} --data {data}"),
        Command("make it again", f"nomoat tune {data} --base {base} {same} --name {name}-again"),
        Command("where it comes from", f"nomoat ls --tree {name}"),
        Command("use it elsewhere (PEFT folder)", f"nomoat show {name}"),
    ]
