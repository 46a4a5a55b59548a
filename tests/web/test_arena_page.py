"""A blind session in a real browser: two voters, votes by the keyboard, and nothing that betrays the sides."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.store import Store
from nomoat.engine.sampling import Sampling
from nomoat.judge.bout import Contestants
from nomoat.judge.topics import Topic
from nomoat.judge.vote_exports import preference_rows
from nomoat.judge.votes import Answer, Vote, cast, votes
from nomoat.serve.arena_options import ArenaOptions
from served import LiveArena, add_adapter, serving_arena
from tiny import tiny_base

MODELS = ("tiny+zeta", "tiny+omega")
QUESTIONS = [Topic(str(n), "", ({"role": "user", "content": f"question {n}?"},)) for n in range(5)]
DRAW = Sampling(max_tokens=4)
SKELETON = "() => document.documentElement.outerHTML.replace(/>[^<]+</g, '><')"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LiveArena]:
    store = Store(tmp_path)
    base = tiny_base(store.path("bases", "tiny"), tie_word_embeddings=False)
    for seed, name in enumerate(("zeta", "omega"), start=1):
        add_adapter(store, base, name, seed)
    with serving_arena(store, MODELS, QUESTIONS, ArenaOptions(port=0, voters=("ann", "ben")), DRAW) as found:
        yield found


@pytest.fixture
def by_zeta(place: LiveArena) -> dict[str, str]:
    """What zeta answers to each question: a voter with a taste for it knows it by its words."""
    with contextlib.closing(Contestants(place.store, MODELS, DRAW)) as both:
        return {asked.text: both.answer("tiny+zeta", asked.opening).text for asked in QUESTIONS}


class Voter:
    """A person with a browser. ``seen`` is everything that came over the network, ``wrong`` what must not happen."""

    def __init__(self, place: LiveArena, browser: Any, name: str) -> None:
        self.seen: list[str] = []
        self.wrong: list[str] = []
        self.page = browser.new_context(viewport={"width": 1100, "height": 800}).new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)
        self.page.on("request", lambda asked: None if asked.url.startswith(place.url) else self.wrong.append(asked.url))
        self.page.on("requestfinished", self._keep)
        self.page.goto(place.links[name])
        self.page.locator("#next").wait_for()

    def _keep(self, request: Any) -> None:
        reply = request.response()
        body = "" if request.is_navigation_request() else reply.text()
        self.seen.append(f"{request.url} {json.dumps(reply.all_headers())} {body}")

    def read(self) -> tuple[str, str, str]:
        """Press Enter; the question and both answers, once they stand."""
        self.page.keyboard.press("Enter")
        self.page.locator("#voting:not([hidden]), #below.bad").wait_for()
        assert self.page.locator("#status").text_content() == "Which is better?"
        left, right = (self.page.locator(f"#{side} .text").text_content() for side in ("left", "right"))
        return self.page.locator("#question").text_content(), left, right

    def vote(self, key: str) -> dict[str, str]:
        """Press a key; the names that are told."""
        self.page.keyboard.press(key)
        self.page.locator("#going").wait_for()
        return {side: self.page.locator(f"#{side} .name").text_content() for side in ("left", "right")}


def test_thirty_votes_of_two_voters_recover_their_taste_and_nothing_betrays_the_sides(
    place: LiveArena, browser: Any, by_zeta: dict[str, str]
) -> None:
    ann, ben = Voter(place, browser, "ann"), Voter(place, browser, "ben")
    skeletons: dict[str, set[str]] = {"left": set(), "right": set()}
    for number in range(30):
        voter = (ann, ben)[number % 2]
        voter.seen.clear()
        question, left, right = voter.read()
        # The page and the network as they are before the vote, without what the models said.
        known = voter.page.content() + " ".join(voter.seen)
        assert "zeta" not in known and "omega" not in known and "tiny" not in known
        zeta = "left" if left == by_zeta[question] else "right"
        assert (left, right)[zeta == "right"] == by_zeta[question]
        skeletons[zeta].add(voter.page.evaluate(SKELETON))
        likes = "1" if zeta == "left" else "2"
        names = voter.vote("t" if number % 10 == 9 else likes)
        assert names[zeta] == "tiny+zeta"
    assert skeletons["left"] and skeletons["left"] == skeletons["right"]
    assert ann.wrong == ben.wrong == []
    assert "30 votes, 15 of them yours. Enough votes to tell." in ann.page.locator("#progress").text_content() + (
        ben.page.locator("#progress").text_content()
    )
    ann.page.get_by_role("link", name="Leaderboard").click()
    assert "tiny+zeta is preferred to tiny+omega, 27 to 0" in ann.page.locator(".told").text_content()
    assert ann.page.locator("tbody tr").first.text_content().startswith("1tiny+zeta")
    ann.page.set_viewport_size({"width": 390, "height": 780})
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert ann.page.locator("svg.chart").first.bounding_box()["width"] > 300
    assert ann.wrong == []
    kept = votes(place.store, "mine")
    assert [vote.voter for vote in kept] == ["ann", "ben"] * 15
    ratings = place.arena.ratings()
    assert ratings is not None and ratings.models[0] == "tiny+zeta"
    assert ratings.difference("tiny+zeta", "tiny+omega").low > 0
    assert "tiny+zeta is preferred to tiny+omega, 27 to 0: enough votes to tell" in place.arena.told()[0].sentence


def test_a_note_is_kept_and_a_changed_vote_leaves_the_first_on_record(place: LiveArena, browser: Any) -> None:
    ann = Voter(place, browser, "ann")
    ann.read()
    ann.page.keyboard.press("n")
    ann.page.keyboard.type("b is for brief, 1 for one")
    ann.page.keyboard.press("Enter")
    ann.vote("b")
    ann.page.get_by_role("button", name="Change my vote").click()
    ann.vote("t")
    assert "stays on record" in ann.page.locator("#status").text_content()
    (kept,) = votes(place.store, "mine")
    assert (kept.winner, kept.note) == ("tie", "b is for brief, 1 for one")
    assert kept.replaces is not None
    assert ann.wrong == []


def test_ones_own_question_is_asked_and_markup_stays_text(place: LiveArena, browser: Any) -> None:
    ann = Voter(place, browser, "ann")
    ann.page.locator("#own").fill("<img src=x onerror=alert(1)>")
    ann.page.keyboard.press("Enter")
    ann.page.locator("#voting").wait_for()
    assert ann.page.locator("#question").text_content() == "<img src=x onerror=alert(1)>"
    assert ann.page.locator("#asked img").count() == 0
    ann.vote("2")
    assert votes(place.store, "mine")[0].prompt[0]["content"].startswith("<img")


def test_a_question_of_two_turns_and_ones_own_further_one_stand_on_both_sides(tmp_path: Path, browser: Any) -> None:
    store = Store(tmp_path)
    for seed, name in enumerate(("zeta", "omega")):
        tiny_base(store.path("bases", name), seed=seed)
    both = [Topic("0", "", ({"role": "user", "content": "first?"},), ("second?",))]
    with serving_arena(store, ("zeta", "omega"), both, ArenaOptions(port=0), DRAW) as place:
        me = Voter(place, browser, "me")
        me.page.keyboard.press("Enter")
        me.page.locator("#voting").wait_for()
        me.page.keyboard.press("f")
        me.page.keyboard.type("third?")
        me.page.keyboard.press("Enter")
        me.page.locator("#right .turn", has_text="third?").wait_for()
        me.page.locator("#voting").wait_for()
        for side in ("left", "right"):
            assert me.page.locator(f"#{side} .turn").all_text_contents() == ["second?", "third?"]
            assert all(me.page.locator(f"#{side} .answer").all_text_contents())
        assert "zeta" not in me.page.content() and "omega" not in me.page.content()
        me.vote("1")
        assert me.wrong == []
        (kept,) = votes(store, "mine")
    assert kept.later == ("second?", "third?") and len(kept.answer_a.later) == len(kept.answer_b.later) == 2
    (row,) = preference_rows([kept])
    assert [message["role"] for message in row["chosen"]] == ["assistant", "user"] * 2 + ["assistant"]


def test_answers_are_written_ahead_from_the_page_of_jobs(place: LiveArena, browser: Any) -> None:
    ann = Voter(place, browser, "ann")
    ann.page.get_by_role("link", name="Jobs").click()
    ann.page.get_by_role("button", name="Write all answers ahead").click()
    ann.page.locator("#status", has_text="10 answers are written").wait_for()
    ann.page.locator("#stop").wait_for(state="hidden")
    ann.page.reload()  # who comes later is told how it ended
    ann.page.locator("#status", has_text="10 answers are written").wait_for()
    ann.page.get_by_role("link", name="Back to voting").click()
    ann.page.locator("#next").click()  # a key right after another page's link may be lost in the browser
    ann.page.locator("#voting").wait_for()
    assert "zeta" not in " ".join(ann.seen) + ann.page.content()
    assert ann.wrong == []


def test_who_has_no_link_is_told_so(place: LiveArena, browser: Any) -> None:
    page = browser.new_context().new_page()
    page.goto(place.url)
    page.locator("#below.bad").wait_for()
    assert "Open the link that you were given" in page.locator("#status").text_content()


def test_the_exam_is_read_on_a_phone_and_the_keyboard_keeps_its_place(tmp_path: Path, browser: Any) -> None:
    store = Store(tmp_path)
    for seed, name in enumerate(("zeta", "omega")):
        tiny_base(store.path("bases", name), seed=seed, max_position_embeddings=4096)
    sides = Answer("A good answer."), Answer("No.")
    for number in range(24):
        asked = ({"role": "user", "content": f"{number}?"},)
        cast(store, Vote("mine", "me", asked, "zeta", "omega", *sides, "model_a"))
    with serving_arena(store, ("zeta", "omega"), QUESTIONS, ArenaOptions(port=0, judge="zeta"), DRAW) as place:
        me = Voter(place, browser, "me")
        me.page.set_viewport_size({"width": 390, "height": 780})
        me.page.get_by_role("link", name="Jobs").click()
        button = me.page.get_by_role("button", name="Let zeta sit its exam on the votes")
        button.focus()
        me.page.keyboard.press("Enter")
        me.page.get_by_role("table", name="The exam").wait_for(timeout=120_000)  # an exam, not a page, takes its time
        rows = me.page.get_by_role("rowheader").all_text_contents()
        assert rows[0].startswith("agreement") and len(rows[0]) > len("agreement") + 20  # what it is, or the remedy
        assert me.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert button.is_enabled() and me.page.locator("#kinds button").count() == 2
        me.page.keyboard.press("Shift+Tab")
        assert me.page.evaluate("document.activeElement.textContent") == "Write all answers ahead"
        assert me.wrong == []


@pytest.mark.parametrize("size", [(1200, 800), (390, 780)])
def test_nothing_is_cut_off_at_either_width(place: LiveArena, browser: Any, size: tuple[int, int]) -> None:
    ann = Voter(place, browser, "ann")
    ann.page.set_viewport_size({"width": size[0], "height": size[1]})
    ann.page.locator("#own").fill("a" * 200)
    ann.page.keyboard.press("Enter")
    ann.page.locator("#voting").wait_for()
    for name in ("#question", "#left", "#right", "#voting", "#note", "header"):
        box = ann.page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size[0] + 0.5
    bar = ann.page.locator("#bar").bounding_box()
    assert bar["y"] + bar["height"] <= size[1] + 0.5
