"""The blind arena: sides, votes that stay, ratings, and who meets next."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from nomoat.core.errors import NotFound, UsageError
from nomoat.core.store import Store
from nomoat.data.preferences import preferences_of
from nomoat.data.rows import Message, Place
from nomoat.judge.arena import Arena
from nomoat.judge.topics import Topic
from nomoat.judge.vote_exports import fastchat_rows, preference_rows
from nomoat.judge.votes import Answer, Vote, arenas, cast, votes, votes_in

HI: tuple[Message, ...] = ({"role": "user", "content": "Hi?"},)
NONE = Answer("")


def arena(models: tuple[str, ...] = ("base", "tuned"), seed: int = 0) -> Arena:
    return Arena(Store(), "mine", models, [Topic("1", "greeting", HI)], seed=seed)


def play(place: Arena, rounds: int, better: dict[str, float], seed: int = 0) -> None:
    """Vote as somebody would who prefers higher numbers, nine times in ten."""
    rng = random.Random(seed)
    for _ in range(rounds):
        match = place.match()
        likes_left = (better[match.left] > better[match.right]) == (rng.random() < 0.9)
        answers = (Answer(f"by {match.left}", 3, 0.5), Answer(f"by {match.right}", 4, 0.25))
        place.vote(match.key, "left" if likes_left else "right", *answers)


def test_what_leaves_the_arena_before_the_vote_does_not_name_the_sides() -> None:
    keys = {arena(seed=seed).match().key for seed in range(20)}
    assert len(keys) == 20
    assert not any("base" in key or "tuned" in key for key in keys)


def test_each_model_stands_on_either_side_about_equally_often() -> None:
    place = arena()
    sides = Counter(place.match().left for _ in range(400))
    assert 150 < sides["base"] < 250


def test_a_vote_is_for_the_model_and_not_for_the_side() -> None:
    place = arena()
    for _ in range(12):
        match = place.match()
        place.vote(match.key, "left" if match.left == "tuned" else "right", NONE, NONE)
    told = place.told()[0]
    assert (told.better, told.wins, told.losses) == ("tuned", 12, 0)
    ratings = place.ratings()
    assert ratings is not None and ratings.models[0] == "tuned"


def test_answers_are_kept_with_the_model_that_gave_them() -> None:
    place = arena()
    play(place, 10, {"base": 0, "tuned": 1})
    for vote in votes(Store(), "mine"):
        assert (vote.answer_a.text, vote.answer_b.text) == (f"by {vote.model_a}", f"by {vote.model_b}")
        assert {vote.answer_a.tokens, vote.answer_b.tokens} == {3, 4}
        assert vote.category == "greeting"


def test_a_match_is_voted_on_once() -> None:
    place = arena()
    match = place.match()
    place.vote(match.key, "tie", NONE, NONE)
    with pytest.raises(NotFound, match="not open"):
        place.vote(match.key, "left", NONE, NONE)


def test_thinking_again_leaves_a_trace_and_only_the_last_word_counts() -> None:
    store = Store()
    first = cast(store, Vote("mine", "me", HI, "a", "b", NONE, NONE, "model_a"))
    cast(store, Vote("mine", "me", HI, "a", "b", NONE, NONE, "model_b", replaces=first))
    assert [vote.winner for vote in votes(store, "mine")] == ["model_b"]
    assert arenas(store) == {"mine": 2}
    with pytest.raises(UsageError, match="cannot be kept"):
        cast(store, Vote("mine", "me", HI, "a", "b", NONE, NONE, "tie", replaces=first))


def test_a_vote_is_changed_by_its_own_voter_once_and_both_stay() -> None:
    place = arena()
    match = place.match(voter="ann")
    first = place.vote(match.key, "left", NONE, NONE, note="quick")
    assert (first.left, first.right) == (match.left, match.right)
    with pytest.raises(NotFound, match="not yours"):
        place.vote_again(first.number, "right", voter="ben")
    again = place.vote_again(first.number, "right", voter="ann")
    assert (again.left, again.right) == (match.left, match.right)
    with pytest.raises(UsageError, match="cannot be kept"):
        place.vote_again(first.number, "tie", voter="ann")
    (kept,) = place.votes()
    winner = {"model_a": kept.model_a, "model_b": kept.model_b}[kept.winner]
    assert (winner, kept.note, kept.replaces) == (match.right, "quick", first.number)
    assert arenas(Store()) == {"mine": 2}


def test_progress_is_said_without_a_name() -> None:
    place = arena(("base", "tuned", "other"))
    assert place.progress().sentence.startswith("0 of 3 pairs told apart; the next cannot be with fewer than ")
    pair = arena()
    assert "You cannot tell with fewer than" in pair.progress().sentence
    play(pair, 40, {"base": 0, "tuned": 1})
    assert pair.progress().sentence == "Enough votes to tell."


def test_the_stopping_rule_says_how_many_votes_are_missing_and_when_there_are_enough() -> None:
    place = arena()
    play(place, 3, {"base": 0, "tuned": 1})
    assert "cannot be told with fewer than" in place.told()[0].sentence
    play(place, 40, {"base": 0, "tuned": 1}, seed=1)
    assert "tuned is preferred to base" in place.told()[0].sentence


def test_pairs_that_are_close_or_met_seldom_meet_next() -> None:
    place = arena(("weak", "strong", "equal"))
    for _ in range(20):
        for winner, loser in (("strong", "weak"), ("equal", "weak")):
            cast(Store(), Vote("mine", "me", HI, winner, loser, NONE, NONE, "model_a"))
    cast(Store(), Vote("mine", "me", HI, "strong", "equal", NONE, NONE, "tie"))
    match = place.match()
    assert {match.left, match.right} == {"strong", "equal"}


def test_a_model_that_was_aligned_on_the_votes_enters_blind_beside_those_that_were_voted_on() -> None:
    play(arena(), 30, {"base": 0, "tuned": 1})
    later = arena(("base", "tuned", "aligned"))
    met: Counter[str] = Counter()
    for _ in range(12):
        match = later.match()
        met.update((match.left, match.right))
        later.vote(match.key, "left" if match.left == "aligned" else "right", NONE, NONE)
    assert met["aligned"] == 12
    assert later.progress().votes == 42
    ratings = later.ratings()
    assert ratings is not None and set(ratings.models) == {"base", "tuned", "aligned"}


def test_a_planted_preference_comes_out_in_the_ratings() -> None:
    place = arena(("one", "two", "three"))
    play(place, 120, {"one": 1, "two": 2, "three": 3})
    ratings = place.ratings()
    assert ratings is not None
    assert ratings.models == ("three", "two", "one")


def test_votes_leave_as_preferences_that_can_be_read_again() -> None:
    place = arena()
    play(place, 6, {"base": 0, "tuned": 1})
    place.vote(place.match().key, "both_bad", NONE, NONE)
    rows = list(preference_rows(votes_in(Store(), "mine")))
    assert len(rows) == 6
    pair = preferences_of(rows[0], Place("votes", 1, 1))[0]
    assert pair.messages == HI and pair.chosen.startswith("by ")
    logs = list(fastchat_rows(votes_in(Store(), "mine")))
    assert [row["winner"] for row in logs][-1] == "tie (bothbad)"
    assert logs[0]["conversation_a"][-1]["role"] == "assistant"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="two or more different models"):
        arena(("same", "same"))
    with pytest.raises(UsageError, match="no vote"):
        arena().vote("key", "up", NONE, NONE)
    with pytest.raises(UsageError, match="no questions"):
        Arena(Store(), "mine", ("a", "b"), []).match()
    with pytest.raises(NotFound, match="no votes in arena"):
        votes_in(Store(), "empty")
