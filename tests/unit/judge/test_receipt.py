"""The receipt: complete, self-contained, and safe whatever the rows and names hold."""

from __future__ import annotations

import dataclasses
import html.parser
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nomoat.core.errors import StorageError
from nomoat.core.records import Eval, Step
from nomoat.judge.facts import Command, Cost, Forecast, Ingredient, ReceiptFacts
from nomoat.judge.receipt import render, write_receipt
from nomoat.judge.sentences import headline
from nomoat.judge.verdict import LOG_PERPLEXITY, NATS, compare_means, compare_shares

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}</style></title>"


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("\u2212", "-")


def judged(fixed: int = 26, broken: int = 1, wrong: int = 73, *, text: str = "SELECT 1") -> dict[str, Any]:
    """A judge's result as ``compare.judge`` gives it, with the numbers that were asked for."""
    before = np.repeat([False, True, False], [fixed, broken, wrong])
    after = np.repeat([True, False, False], [fixed, broken, wrong])
    answers = compare_shares("right answers", before, after)
    losses = np.random.default_rng(0).normal(2.0, 0.3, size=before.size)
    loss = compare_means("held-out loss", NATS, losses, losses - 1.5, higher_is_better=False)
    general = compare_means(
        "perplexity of general text", LOG_PERPLEXITY, losses, losses + 0.001, higher_is_better=False
    )
    outcomes = [
        {
            "row": row,
            "prompt": f"{text} {row}",
            "expected": text,
            "before": f"before {text}",
            "after": f"after {text}",
            "correct_before": bool(before[row]),
            "correct_after": bool(after[row]),
        }
        for row in range(before.size)
    ]
    return {
        "model": text,
        "base": text,
        "stack": [{"adapter": text, "weight": 0.5}],
        "data": text,
        "split": "test",
        "rows": before.size,
        "skipped": [{"reason": text, "count": 3}],
        "check": {"name": text, "summary": text, "why": text, "chosen_by": "nomoat"},
        "verdict": answers.verdict,
        "headline": "answers",
        "answers": answers.as_dict(),
        "loss": loss.as_dict(),
        "counts": {"fixed": fixed, "broken": broken, "both_right": 0, "both_wrong": wrong},
        "outcomes": outcomes,
        "forgetting": {
            "verdict": "kept",
            "allowed": "perplexity up by 5 %",
            "parts": [{**general.as_dict(), "verdict": "kept", "margin": math.log(1.05)}],
        },
    }


def full(text: str = "scribe") -> ReceiptFacts:
    return ReceiptFacts(
        name=text,
        created="22 November 2025, 23:12",
        judged=judged(text=text),
        ingredients=[Ingredient("base", text, "ab" * 32, text, 93_800_000, text)],
        kept={"train": 1000, "test": 100},
        dropped=[{"reason": text, "count": 12, "first": text}],
        settings={"rank": 16, text: text},
        forecasts=[Forecast(text, "s", 531, 587, 470, 602), Forecast("peak memory", "B", 1.3e9, 1.2e9)],
        gave_up=[text],
        steps=[Step(n, 50, 2 / n, 1e-4, 1.0, 10, 5.0, 1.0, 1.0) for n in range(1, 51)],
        evals=[Eval(25, 0.4, 10, best=True)],
        stages={text: 14.0},
        cost=Cost(3600, 7200, currency=text),
        machine={text: text},
        versions={"nomoat": text},
        commands=[Command(text, f"nomoat chat {text}")],
        notes=[text],
    )


class Tags(html.parser.HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def test_text_from_rows_names_and_commands_can_never_become_markup() -> None:
    page = render(full(EVIL))
    quiet, evil = Tags(render(full())), Tags(page)
    assert evil.names == quiet.names
    assert not {"script", "img"} & set(evil.names)
    assert not [name for name, _ in evil.attributes if name.startswith("on")]
    assert page.count("&lt;script&gt;") > 20
    assert "{{ 7 * 7 }}" in page


def test_the_page_loads_nothing_and_links_nowhere() -> None:
    page = render(full())
    assert not [value for name, value in Tags(page).attributes if name in ("src", "href", "xlink:href")]
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page


def test_the_page_says_what_went_in_what_came_out_and_what_it_cost() -> None:
    page = plain(render(full()))
    for words in (
        "better",
        "26 of 100 held-out answers are right (26 %); before it was 1 (1 %)",
        "+25 points, 95 % interval +16 to +34",
        "<b>26</b> fixed",
        "<b>73</b> wrong both times",
        "ab" * 32,
        "93.8 MB",
        "<b>1,000</b> train",
        "8 min 51 s",
        "as promised",
        "7 min 50 s to 10 min 02 s, meant to hold 80 % of the time",
        "28 Wh",
        "nomoat chat scribe",
        "best 0.400",
        "kept",
        "scribe</b> at 0.5",
    ):
        assert words in page, words


def test_the_page_follows_the_readers_theme_and_prints() -> None:
    page = render(full())
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_a_receipt_of_almost_nothing_leaves_its_sections_out() -> None:
    page = render(ReceiptFacts(name="bare", created="today"))
    assert "<h2>" not in page
    assert "bare" in page


def test_only_a_test_split_is_said_to_be_unseen_by_training() -> None:
    assert "which training never saw" in render(full())
    of_a_file = {**judged(), "split": "all"}
    assert "which training never saw" not in render(dataclasses.replace(full(), judged=of_a_file))


def test_a_forecast_that_missed_its_interval_is_marked() -> None:
    missed = Forecast("training time", "s", 100, 300, 90, 120)
    assert missed.held is False
    assert "outside" in render(dataclasses.replace(full(), forecasts=[missed]))


def test_only_a_few_examples_of_each_outcome_are_shown_and_long_ones_are_cut() -> None:
    page = render(dataclasses.replace(full(), judged=judged(text="x" * 5000)))
    assert page.count("<article>") == 3 + 1 + 3
    assert "4,300 more characters" in page


def judged_by_loss() -> dict[str, Any]:
    result = {**judged(), "headline": "loss", "counts": None, "answers": None}
    unseen = {"before": None, "after": None, "correct_before": None, "correct_after": None}
    seen = {"correct_before": None, "correct_after": None}
    outcomes = [outcome | (seen if outcome["row"] < 3 else unseen) for outcome in result["outcomes"]]
    return {**result, "outcomes": outcomes}


def test_a_held_out_loss_can_be_the_headline_with_a_few_answers_to_look_at() -> None:
    said = headline(judged_by_loss())
    assert said.word == "better"
    assert "held-out loss fell from" in said.sentence
    page = render(dataclasses.replace(full(), judged=judged_by_loss()))
    assert "held-out loss fell from" in page
    assert page.count("<article>") == 3
    assert "✓" not in page
    assert "✗" not in page


def test_a_change_of_general_perplexity_is_told_in_per_cent() -> None:
    assert "+0.1 %" in plain(render(full()))


def test_the_estimate_of_energy_and_money_follows_from_the_stated_assumptions() -> None:
    cost = Cost(wall_s=3600, cpu_s=7200, watts_per_busy_core=8, watts_rest=12, price_per_kwh=0.5)
    assert cost.watt_hours == pytest.approx(28)
    assert cost.price == pytest.approx(0.014)


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_receipt(tmp_path / "runs" / "receipt.html", full())
    assert (tmp_path / "runs" / "receipt.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_receipt(tmp_path / "file" / "receipt.html", full())
