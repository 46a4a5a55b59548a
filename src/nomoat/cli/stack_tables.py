"""What ``nomoat stack --report`` and ``--search`` found, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.cli.tables import print_table
from nomoat.core.records import Done
from nomoat.stack.options import NATS

_SHOWN = 5


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
    """A line for each subset: every skill's score, and how much of its own gain is left."""
    heads = [f"{skill['adapter']} on {skill['data']} ({skill['rows']} rows)" for skill in scores["skills"]]
    by_loss = [skill["unit"] == NATS for skill in scores["skills"]]
    lines = []
    for subset in scores["subsets"]:
        worn = "+".join(subset["adapters"]) or "nothing"
        levels = [f"{score:.4f}" if loss else f"{1 - score:.1%}" for score, loss in zip(subset["scores"], by_loss)]
        shares = [f" ({kept:.0%})" if skill["gains"] else "" for skill, kept in zip(scores["skills"], subset["kept"])]
        cells = [level + share for level, share in zip(levels, shares, strict=True)]
        lines.append([worn, *cells, ", ".join(subset["lost"])])
    print_table(env, ["wearing", *heads, f"keeps less than {scores['keep']:.0%}"], lines)
    env.print(
        "(right answers in per cent, losses in nats a token; in brackets how much is left of what the adapter gains "
        "alone)"
    )
    for skill in scores["skills"]:
        if not skill["gains"]:
            env.print(f"{skill['adapter']} alone gains nothing on {skill['data']}, so there is nothing of it to keep")


def print_search(done: Done, env: Environment) -> None:
    """The weights, what each skill keeps before and after, and what else keeps all of them."""
    result = done.result
    kept = zip(result["kept_valid"], result["kept_test_before"], result["kept_test"])
    rows = [
        [name, unit, *(f"{share:.1%}" if gains else "no gain to keep" for share in shares)]
        for name, unit, gains, shares in zip(result["skills"], result["units"], result["gains"], kept)
    ]
    print_table(env, ("skill", "by", "kept (validation)", "kept before (test)", "kept (test)"), rows)
    env.print(f"weightings under which every skill keeps {result['keep']:.0%} (validation): {len(result['within'])}")
    for each in result["within"][:_SHOWN]:
        env.print(f"  {_weights(each)}  least {min(each['kept']):.1%}")
    env.print(f"stack  {_weights(result)}")


def _weights(found: Mapping[str, Any]) -> str:
    weights = "+".join(f"{name}:{weight:.3f}" for name, weight in found["weights"].items())
    return weights if found["grain"] == "adapter" else f"{weights} on average, grain {found['grain']}"
