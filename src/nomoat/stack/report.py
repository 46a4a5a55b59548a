"""``stack --report``: who is in whose way, what every subset does to every skill, what compression would cost."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from nomoat.core.files import write_json
from nomoat.core.records import Done, Record, Saved
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.stack.heat import draw_heat
from nomoat.stack.interference import Interference, interference
from nomoat.stack.job import OpenStack
from nomoat.stack.options import SkillOptions
from nomoat.stack.skills import Scoring, Skill, SubsetScores, by_loss, every_subset, read_skills, shares_kept

REPORT_FILE, HEAT_FILE = "report.json", "interference.png"
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def report(opened: OpenStack, options: SkillOptions, store: Store, scoring: Scoring | None = None) -> Generator[Record]:
    """Measure a stack; ends with ``Done("report")``. Writes ``runs/stack-...`` with the figures and a picture.

    Skills are scored on held-out test rows, by their loss where ``scoring`` says nothing else.
    """
    scoring = scoring or by_loss(opened.base)
    found = yield from interference(opened.worn, opened.base.decoder)
    scores: dict[str, Any] | None = None
    if options.scores:
        skills = yield from read_skills(
            store, opened.base, opened.worn, opened.folders, data=options.data, split="test", limit=options.limit
        )
        subsets = yield from every_subset(opened.worn, skills, scoring.score)
        scores = _scores(skills, subsets, scoring, options.keep)
    result = {
        "base": opened.base.name,
        "stack": {adapter.name: weight for adapter, weight in opened.worn},
        **summary(found),
        "scores": scores,
        "interference": found.as_dict(),
    }
    name = "-".join(["stack", *(_ODD.sub("-", adapter.name) for adapter in opened.adapters)])[:100].rstrip("-.")
    parents = tuple(Parent("adapter", adapter.name, "") for adapter in opened.adapters)
    lineage = Lineage(kind="run", name=name, parents=parents, options=dataclasses.asdict(options))
    with store.writing("runs", name, replace=True) as folder:
        write_json(folder / REPORT_FILE, result)
        draw_heat(found, folder / HEAT_FILE)
        write_lineage(folder, lineage)
    path = store.path("runs", name)
    yield Saved(path, "report")
    yield Done("report", path, result)


def summary(found: Interference) -> dict[str, Any]:
    """The whole stack in a few figures: means over modules, weighted by nothing; shares of energy by rank."""
    by_pair: dict[tuple[str, str], list[Any]] = {}
    for pair in found.pairs:
        by_pair.setdefault((pair.first, pair.second), []).append(pair)
    ranks = sorted({rank for each in found.sums for rank in each.kept})
    return {
        "pairs": [
            {"first": first, "second": second, **_means(several)} for (first, second), several in by_pair.items()
        ],
        "effective_rank": sum(each.effective_rank for each in found.sums) / max(1, len(found.sums)),
        "rank": max((each.rank for each in found.sums), default=0),
        "kept_at_rank": [[rank, found.kept(rank)] for rank in ranks],
    }


def _means(several: Sequence[Any]) -> dict[str, float]:
    rows = [dataclasses.asdict(pair) for pair in several]
    return {key: sum(row[key] for row in rows) / len(rows) for key in ("reads", "writes", "cosine", "conflict")}


def _scores(skills: Sequence[Skill], subsets: Sequence[SubsetScores], scoring: Scoring, keep: float) -> dict[str, Any]:
    """A row for every subset: scores, the share that is left of what each adapter gains alone, what falls below."""
    by_adapters: Mapping[tuple[str, ...], SubsetScores] = {each.adapters: each for each in subsets}
    bare = by_adapters[()].scores
    alone = [by_adapters[(skill.adapter,)].scores[place] for place, skill in enumerate(skills)]
    rows = []
    for each in subsets:
        kept = shares_kept(each.scores, bare, alone)
        lost = [skill.data for skill, share in zip(skills, kept) if skill.adapter in each.adapters and share < keep]
        rows.append({"adapters": list(each.adapters), "scores": list(each.scores), "kept": kept, "lost": lost})
    heads = [
        {
            "adapter": skill.adapter,
            "data": skill.data,
            "rows": len(skill.rows),
            "unit": scoring.unit(skill),
            "gains": own < before,
        }
        for skill, before, own in zip(skills, bare, alone, strict=True)
    ]
    return {"skills": heads, "subsets": rows, "keep": keep}
