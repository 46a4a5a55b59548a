"""What a data set holds and what was left out of it: counts, reasons, lengths, examples; as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from nomoat.core.amounts import counted
from nomoat.data.rows import Row, kind_of

_BAR_WIDTH = 28
_EXAMPLE_CHARACTERS = 100
_MOST_ASIDE = 8  # files named one by one
Histogram = list[tuple[int, int]]


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The account of one ``data add``. ``dropped`` holds reason, count and the first place."""

    name: str
    kind: str
    why: str
    read: int
    kept: dict[str, int]
    dropped: list[dict[str, Any]]
    shapes: dict[str, int]
    ignored_fields: dict[str, int]
    aside: list[str]
    repeated_prompts: int
    characters: Histogram
    examples: list[str]
    tokens: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``nomoat.json`` and ``--json``."""
        return dataclasses.asdict(self)


def histogram(lengths: Iterable[int]) -> Histogram:
    """Counts by power of two: pairs of (upper bound, how many are at most that and above the bound before)."""
    counts: dict[int, int] = {}
    for length in lengths:
        bound = 1 << max(0, length - 1).bit_length()
        counts[bound] = counts.get(bound, 0) + 1
    if not counts:
        return []
    bounds = [1 << power for power in range(min(counts).bit_length() - 1, max(counts).bit_length())]
    return [(bound, counts.get(bound, 0)) for bound in bounds]


def draw(report: Report) -> str:
    """The report for a person."""
    total = sum(report.kept.values())
    kept = "   ".join(f"{split} {count:,}" for split, count in report.kept.items())
    shapes = ", ".join(report.shapes)
    kind = report.kind if report.kind == shapes else f"{report.kind}, kept as {shapes}"
    lines = [f"{report.name}: {counted(total, 'row')} kept of {report.read:,} read ({kind})", f"  {kept}"]
    if report.why:
        lines.append(f"  guessed from: {report.why}")
    for dropped in report.dropped:
        first = f", first {dropped['first']}" if dropped["first"] else ""
        lines.append(f"  dropped {dropped['count']:,}: {dropped['reason']}{first}")
    if report.ignored_fields:
        lines.append(f"  fields not used: {', '.join(report.ignored_fields)}")
    if report.aside:
        more = len(report.aside) - _MOST_ASIDE
        others = f" and {more:,} more" if more > 0 else ""
        lines.append(f"  files left aside: {', '.join(report.aside[:_MOST_ASIDE])}{others}")
    if report.repeated_prompts:
        lines.append(f"  kept with a prompt that has another answer too: {report.repeated_prompts:,}")
    lines += ["  characters a row", *bars(report.characters)]
    if report.tokens is not None:
        lines.append(f"  tokens a row with {report.tokens['base']}, {report.tokens['total']:,} in all")
        lines += bars([(bound, count) for bound, count in report.tokens["histogram"]])
    lines += ["  for example", *(f"    {example}" for example in report.examples)]
    return "\n".join(lines)


def bars(counts: Sequence[tuple[int, int]]) -> list[str]:
    """One line a bound, its bar scaled to the largest count."""
    if not counts:
        return []
    width = len(f"{counts[-1][0]:,}")
    most = max(count for _, count in counts)
    return [
        f"    <= {bound:>{width},}  {'█' * max(count > 0, round(_BAR_WIDTH * count / most))} {count:,}"
        for bound, count in counts
    ]


def examples(rows: Sequence[Row], n: int = 3) -> list[str]:
    """The first rows on one line each, shortened, control characters escaped."""
    return [shorten(row) for row in rows[:n]]


def shorten(row: Row) -> str:
    """A row on one line: what is asked and what is answered."""
    if kind_of(row) == "text":
        return _clip(row["text"], _EXAMPLE_CHARACTERS)
    if kind_of(row) == "messages":
        asked = next((m["content"] for m in row["messages"] if m["role"] == "user"), "")
        last = row["messages"][-1]
        answer = last["content"] or json.dumps(last.get("tool_calls", ""), ensure_ascii=False)
    else:
        asked, answer = row["prompt"], row["completion"]
    half = _EXAMPLE_CHARACTERS // 2
    return f"{_clip(asked, half)} -> {_clip(answer, half)}"


def _clip(text: str, width: int) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def visible(text: str, keep: str = "") -> str:
    """The text with control characters escaped, so that data cannot drive the reader's terminal."""
    shown = (c if c.isprintable() or c == " " or c in keep else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)
