"""The leaderboard: what the votes say, in every form."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from nomoat.judge.leaderboard import Leaderboard, leaderboard
from nomoat.judge.leaderboard_page import render_leaderboard
from nomoat.judge.leaderboard_text import as_csv, as_json, as_markdown, voters_csv
from nomoat.judge.rating_plots import shortened
from nomoat.judge.ratings import Winner
from nomoat.judge.votes import Answer, Vote

MODELS = ("base", "tuned", "tuned|<b>+sql:0.5</b>")


def vote(
    a: str, b: str, winner: Winner, number: int = 0, *, category: str = "", note: str = "", **more: object
) -> Vote:
    asked = ({"role": "user", "content": f"<script>{number}</script>"},)
    answers = (Answer("from a", 10, 2.0), Answer("from b", 30, 4.0))
    kept = Vote("mine", "ann", asked, a, b, *answers, winner, category=category, note=note)
    return Vote(**{name: more.get(name, getattr(kept, name)) for name in Vote.__slots__})  # type: ignore[arg-type]


def votes() -> list[Vote]:
    """Tuned beats base 20 to 2 with 4 ties; the third met base twice."""
    found = [vote("base", "tuned", "model_b", n, category=("sql", "prose")[n % 2]) for n in range(20)]
    found += [vote("base", "tuned", "model_a", n, category="sql") for n in range(2)]
    found += [vote("base", "tuned", "tie", note="alike") for _ in range(4)]
    return [*found, *(vote(MODELS[0], MODELS[2], "model_b", n) for n in range(2))]


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return leaderboard("mine", votes(), MODELS)


def test_models_stand_in_order_and_share_a_place_unless_one_is_better_beyond_chance(board: Leaderboard) -> None:
    places = {each.model: each.place for each in board.standings}
    assert places["tuned"] == 1 and places["base"] > 1
    tuned = next(each for each in board.standings if each.model == "tuned")
    assert (tuned.wins, tuned.ties, tuned.losses) == (20, 4, 2)


def test_the_table_of_pairs_is_symmetric_about_a_half_and_says_who_never_met(board: Leaderboard) -> None:
    names = [each.model for each in board.standings]
    for i, row in enumerate(board.shares):
        for j, share in enumerate(row):
            mirror = board.shares[j][i]
            assert (share is None) == (mirror is None) == (i == j or {names[i], names[j]} == set(MODELS[1:]))
            if share is not None and mirror is not None:
                assert share.share.value + mirror.share.value == pytest.approx(1)
    tuned = board.shares[names.index("tuned")][names.index("base")]
    assert tuned is not None and tuned.share.value == pytest.approx(22 / 26) and tuned.battles == 26


def test_categories_are_those_of_the_questions_with_intervals(board: Leaderboard) -> None:
    by_name = {each.name: each for each in board.categories}
    assert {name: each.votes for name, each in by_name.items()} == {"prose": 10, "sql": 12}
    prose = {each.model: each.share for each in by_name["prose"].shares}
    assert prose["tuned"].value == 1.0 and prose["tuned"].low < 0.8
    assert leaderboard("mine", [vote("base", "tuned", "tie")], MODELS).categories == ()


def test_cost_and_habits_are_counted(board: Leaderboard) -> None:
    base = next(each for each in board.costs if each.model == "base")
    assert (base.answers, base.tokens, base.seconds) == (28, 10, 2)
    (ann,) = board.habits
    assert (ann.votes, ann.left, ann.right) == (28, 2, 22) and ann.p_value < 0.001
    changed = leaderboard("mine", [vote("base", "tuned", "tie", replaces=3)], MODELS)
    assert changed.changed == 1


def test_battles_with_notes_come_first_and_no_outcome_comes_twice(board: Leaderboard) -> None:
    outcomes = [(each.model_a, each.model_b, each.winner) for each in board.samples]
    assert len(set(outcomes)) == len(outcomes) == 4
    assert board.samples[0].note == "alike"


def test_every_form_says_the_same(board: Leaderboard) -> None:
    table = list(csv.DictReader(io.StringIO(as_csv(board))))
    known = json.loads(as_json(board))
    assert [row["model"] for row in table] == [each["model"] for each in known["standings"]]
    assert table[0]["rating"] == f"{known['standings'][0]['rating']['value']:.0f}"
    assert [row["tokens"] for row in table if row["model"] == "base"] == ["10.0"]
    text = as_markdown(board)
    assert "tuned is preferred to base, 20 to 2: enough votes to tell" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {8, 5}  # seven columns, then four


def test_voters_who_judged_the_same_are_compared_in_every_form() -> None:
    both = [vote("base", "tuned", w, n, voter=v) for n in range(6) for v, w in (("ann", "model_a"), ("ben", "model_b"))]
    both += [vote("base", "tuned", "tie", n, voter=v) for n in range(6, 9) for v in ("ann", "ben")]
    board = leaderboard("mine", both, MODELS)
    (row,) = csv.DictReader(io.StringIO(voters_csv(board)))
    assert (row["voters"], row["questions"], row["agreement"]) == ("ann ben", "9", "0.3333")
    assert json.loads(as_json(board))["agreements"][0]["share"]["value"] == pytest.approx(1 / 3)
    assert "| ann, ben | 9 | 33 % (" in as_markdown(board)
    assert "Agreement between voters" in render_leaderboard(board)


def test_the_page_is_whole_and_escapes_what_is_not_ours(board: Leaderboard) -> None:
    page = render_leaderboard(board)
    assert "<script" not in page and "<b>+sql" not in page
    assert "http://" not in page and "https://" not in page and " src=" not in page
    for word in ("Ratings", "Pair by pair", "By category", "prose", "Cost of an answer", "leans to one side", "alike"):
        assert word in page
    assert page.count("<svg") == page.count("</svg>") == 3
    many = leaderboard("mine", votes(), [*MODELS, "four", "five", "six"])
    assert "<details>" not in page and "5 more pairs" in render_leaderboard(many)
    assert "No votes yet" in render_leaderboard(leaderboard("mine", [], MODELS))


def test_a_long_name_keeps_its_two_ends() -> None:
    name = "smollm2-135m-instruct+customer-support-scribe:0.8+sql (12)"
    assert shortened(name) == name[:16] + "…" + name[-17:]
    assert shortened("short") == "short"
