"""What ``nomoat stack --report`` and ``--search`` found, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.tables import print_table
from nomoat.core.records import Done


def print_report(done: Done, env: Environment) -> None:
    """Pairs, ranks, and each skill under every subset."""
    result = done.result
    if result["pairs"]:
        heads = ("pair", "same inputs", "same outputs", "cosine", "pulling apart")
        rows = [
            [f"{pair['first']}, {pair['second']}"]
            + [f"{pair[key]:.0%}" if key != "cosine" else f"{pair[key]:+.3f}" for key in _MEASURES]
            for pair in result["pairs"]
        ]
        print_table(env, heads, rows)
        env.print("(means over modules; unrelated updates pull apart at 50 %)\n")
    env.print(f"rank of the sum {result['rank']}, effective {result['effective_rank']:.1f}; energy kept at rank:")
    env.print("  ".join(f"{rank}: {kept:.1%}" for rank, kept in result["kept_at_rank"]))
    if result["scores"] is not None:
        env.print("")
        _print_subsets(result["scores"], env)
    env.print(f"\nevery module, and a picture: {done.path}")


_MEASURES = ("reads", "writes", "cosine", "conflict")


def _print_subsets(scores: Mapping[str, Any], env: Environment) -> None:
    """A line for each subset: every skill's loss, and how much of its own gain is left."""
    heads = ["wearing", *(f"{adapter} on {data} ({rows} rows)" for adapter, data, rows in scores["skills"])]
    lines = []
    for subset in scores["subsets"]:
        worn = "+".join(subset["adapters"]) or "nothing"
        cells = [f"{loss:.4f} ({kept:.0%})" for loss, kept in zip(subset["losses"], subset["kept"])]
        lines.append([worn, *cells])
    print_table(env, heads, lines)
    env.print("(loss in nats a token; in brackets how much is left of what the adapter gains alone)")


def print_search(done: Done, env: Environment) -> None:
    """The weights, and what each skill keeps before and after."""
    result = done.result
    rows = [
        [name, f"{valid:.1%}", f"{before:.1%}", f"{after:.1%}"]
        for name, valid, before, after in zip(
            result["skills"], result["kept_valid"], result["kept_test_before"], result["kept_test"]
        )
    ]
    print_table(env, ("skill", "kept (validation)", "kept before (test)", "kept (test)"), rows)
    env.print("stack  " + "+".join(f"{name}:{weight:.3f}" for name, weight in result["weights"].items()))
