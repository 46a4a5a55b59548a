"""The blind arena over HTTP: what a voter may know before the vote, who may vote, and that votes stay."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nomoat.core.store import Store
from nomoat.engine.sampling import Sampling
from nomoat.judge.topics import Topic
from nomoat.judge.votes import votes
from nomoat.serve.arena_options import ArenaOptions
from served import LiveArena, add_adapter, serving_arena
from tiny import tiny_base, tiny_folder

MODELS = ("tiny", "tiny+odd", "deep")
QUESTIONS = [
    Topic(str(n), ("first", "second")[n % 2], ({"role": "user", "content": f"question {n}"},)) for n in range(4)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveArena]:
    """Two bases, one of which writes more slowly, and an adapter."""
    store = Store(tmp_path_factory.mktemp("arena"))
    base = tiny_base(store.path("bases", "tiny"), tie_word_embeddings=False)
    add_adapter(store, dataclasses.replace(base, name="tiny"), "odd", 1)
    tiny_folder(store.path("bases", "deep"), seed=1, num_hidden_layers=12)
    options = ArenaOptions(port=0, voters=("ann", "ben=ben-has-a-key"))
    with serving_arena(store, MODELS, QUESTIONS, options, Sampling(max_tokens=12)) as found:
        yield found


@contextlib.contextmanager
def client(place: LiveArena, voter: str) -> Iterator[httpx.Client]:
    """A browser of that voter, with the cookie of the link."""
    with httpx.Client(base_url=place.url, timeout=30, follow_redirects=True) as http:
        assert http.get(place.links[voter]).status_code == 200
        yield http


def asked(http: httpx.Client, **body: Any) -> tuple[httpx.Response, list[dict[str, Any]]]:
    reply = http.post("/arena/match", json=body)
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    return reply, [json.loads(line) for line in lines]


def text_of(events: list[dict[str, Any]], side: str) -> str:
    return "".join(event.get(side, "") for event in events)


def test_a_match_is_streamed_voted_on_and_then_named(place: LiveArena) -> None:
    with client(place, "ann") as http:
        _, events = asked(http)
        key, sides = events[0]["key"], place.sides(events[0]["key"])
        assert events[-1] == {"whole": True}
        assert events[0]["prompt"][0]["content"].startswith("question ")
        told = http.post("/arena/vote", json={"key": key, "verdict": "left", "note": "clear"}).json()
        assert (told["left"], told["right"]) == sides
        assert told["state"]["mine"] == 1
        kept = votes(place.store, "mine")[-1]
        assert (kept.voter, kept.note) == ("ann", "clear")
        said = {kept.model_a: kept.answer_a, kept.model_b: kept.answer_b}
        assert said[sides[0]].text == text_of(events, "left") and said[sides[1]].text == text_of(events, "right")
        assert all(answer.tokens > 0 and answer.seconds > 0 for answer in said.values())
        assert kept.category in ("first", "second")


def test_nothing_before_the_vote_names_a_model_or_depends_on_the_sides(place: LiveArena) -> None:
    shapes = set()
    with client(place, "ann") as http:
        pages = [http.get(path) for path in ("/", "/web/arena.js", "/web/arena.css", "/arena/state")]
        for _ in range(6):
            reply, events = asked(http)
            pages.append(reply)
            shapes.add(tuple(sorted(reply.headers)))
            assert {frozenset(event) for event in events} <= {
                frozenset(("key", "prompt")), frozenset(("left", "right")), frozenset(("whole",))
            }  # fmt: skip
        for page in pages:
            headers = " ".join(f"{name}: {value}" for name, value in page.headers.items())
            assert not any(word in page.text + headers for word in ("tiny", "deep", "odd"))
    assert len(shapes) == 1


def test_both_sides_are_shown_the_same_number_of_characters_at_every_moment(place: LiveArena) -> None:
    with client(place, "ann") as http:
        for _ in range(4):
            _, events = asked(http)
            whole = [len(text_of(events, side)) for side in ("left", "right")]
            seen = [0, 0]
            for event in events:
                seen = [seen[i] + len(event.get(side, "")) for i, side in enumerate(("left", "right"))]
                assert seen == [min(max(seen), whole[i]) for i in range(2)]


def test_a_vote_counts_once_and_only_for_who_was_asked(place: LiveArena) -> None:
    with client(place, "ann") as ann, client(place, "ben") as ben:
        _, events = asked(ann)
        body = {"key": events[0]["key"], "verdict": "tie"}
        assert ben.post("/arena/vote", json=body).status_code == 404
        number = ann.post("/arena/vote", json=body).json()["vote"]
        assert ann.post("/arena/vote", json=body).status_code == 404
        assert ben.post("/arena/vote", json={"replaces": number, "verdict": "left"}).status_code == 404
        before = len(votes(place.store, "mine"))
        changed = ann.post("/arena/vote", json={"replaces": number, "verdict": "both_bad"}).json()
        kept = votes(place.store, "mine")
        assert changed["vote"] != number and len(kept) == before
        assert (kept[-1].winner, kept[-1].replaces) == ("both_bad", number)
        assert ann.post("/arena/vote", json={"replaces": number, "verdict": "left"}).status_code == 400


def test_ones_own_question_is_asked(place: LiveArena) -> None:
    with client(place, "ben") as http:
        _, events = asked(http, prompt=" why? ")
        assert events[0]["prompt"] == [{"role": "user", "content": "why?"}]


def test_a_question_of_two_turns_is_answered_in_two_conversations_and_voted_on_once(place: LiveArena) -> None:
    with client(place, "ben") as http:
        _, events = asked(http, prompt="first?")
        first = [text_of(events, side) for side in ("left", "right")]
        key = events[0]["key"]
        reply = http.post("/arena/turn", json={"key": key, "prompt": " and then? "})
        more = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]
        assert more[0] == {"turn": 2, "prompt": "and then?"} and more[-1] == {"whole": True}
        assert not any(word in reply.text for word in ("tiny", "deep", "odd"))
        second = [text_of(more, side) for side in ("left", "right")]
        sides = place.sides(key)
        assert http.post("/arena/vote", json={"key": key, "verdict": "right"}).status_code == 200
        assert http.post("/arena/turn", json={"key": key, "prompt": "more?"}).status_code == 404
        kept = votes(place.store, "mine")[-1]
        said = {kept.model_a: kept.answer_a, kept.model_b: kept.answer_b}
        assert [said[name].text for name in sides] == first
        assert [said[name].later for name in sides] == [(text,) for text in second]
        assert kept.later == ("and then?",)
        logged = json.loads(http.get("/arena/export/fastchat").text.splitlines()[-1])
        roles = [message["role"] for message in logged["conversation_a"]]
        assert roles == ["user", "assistant", "user", "assistant"]


def test_a_further_question_that_cannot_be_asked_leaves_what_can_be_voted_on(place: LiveArena) -> None:
    with client(place, "ann") as ann, client(place, "ben") as ben:
        key = asked(ann)[1][0]["key"]
        for body, status in (({"prompt": " "}, 400), ({"prompt": "a" * 5000}, 400), ({}, 400)):
            assert ann.post("/arena/turn", json={"key": key, **body}).status_code == status
        assert ben.post("/arena/turn", json={"key": key, "prompt": "mine?"}).status_code == 404
        assert ann.post("/arena/vote", json={"key": key, "verdict": "tie"}).status_code == 200


def test_who_has_no_key_sees_an_empty_page_and_nothing_else(place: LiveArena) -> None:
    with httpx.Client(base_url=place.url) as http:
        assert http.get("/").status_code == 200
        assert http.get("/arena/state").status_code == 401
        assert http.post("/arena/match", json={}).status_code == 401
        assert http.get("/join/guessed").status_code == 401
        wrong = {"Cookie": "nomoat_voter=guessed"}
        assert http.post("/arena/vote", json={"key": "x", "verdict": "tie"}, headers=wrong).status_code == 401
        assert http.get("/v1/models", headers={"Authorization": "Bearer ben-has-a-key"}).status_code == 404
        evil = {"Origin": "https://evil.example", "Cookie": "nomoat_voter=ben-has-a-key"}
        assert http.post("/arena/match", json={}, headers=evil).status_code == 403


@pytest.mark.parametrize(
    "body",
    [{}, {"verdict": "up"}, {"key": "k", "verdict": "tie", "note": "n" * 3000}, {"key": 5, "verdict": "tie"}],
)
def test_what_is_no_vote_is_refused_in_words(place: LiveArena, body: dict[str, Any]) -> None:
    with client(place, "ann") as http:
        reply = http.post("/arena/vote", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["message"]


def test_a_question_that_is_too_long_is_refused_without_saying_for_whom(place: LiveArena) -> None:
    with client(place, "ann") as http:
        reply = http.post("/arena/match", json={"prompt": "a" * 5000})
        assert reply.status_code == 400
        assert "tokens" in reply.text and "tiny" not in reply.text


def test_voters_that_cannot_be_are_refused() -> None:
    from nomoat.core.errors import UsageError
    from nomoat.serve.arena_options import voters_of

    with pytest.raises(UsageError, match="nobody is named"):
        ArenaOptions(host="0.0.0.0")
    for wrong in (("ann", "ann"), ("=12345678",), ("ann=short",)):
        with pytest.raises(UsageError, match="--voters"):
            voters_of(ArenaOptions(voters=wrong), "me")
    named = voters_of(ArenaOptions(voters=("ann", "ben=12345678")), "me")
    assert named.of("12345678") == "ben" and len(named.names) == 2


def test_the_leaderboard_and_its_files_are_served_to_voters_only(place: LiveArena) -> None:
    with client(place, "ann") as http:
        _, events = asked(http)
        http.post("/arena/vote", json={"key": events[0]["key"], "verdict": "left", "note": "<i>so</i>"})
        page = http.get("/leaderboard")
        assert "tiny+odd" in page.text and "&lt;i&gt;so" in page.text
        assert "script-src" not in page.headers["content-security-policy"]
        for address in re.findall('href="(/arena/export/[a-z]+)"', page.text):
            reply = http.get(address)
            assert reply.status_code == 200 and "attachment" in reply.headers["content-disposition"]
        logged = [json.loads(line) for line in http.get("/arena/export/fastchat").text.splitlines()]
        assert len(logged) == len(votes(place.store, "mine"))
        assert http.get("/arena/export/passwords").status_code == 404
    with httpx.Client(base_url=place.url) as http:
        assert http.get("/leaderboard").status_code == http.get("/arena/export/json").status_code == 401
