"""A judge beside the voters: what agrees, what is not decided, what voters say of each other."""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.core.records import returned
from nomoat.core.store import Store
from nomoat.data.preferences import Preference
from nomoat.judge.measure import Measuring
from nomoat.judge.own_votes import among_voters, with_votes
from nomoat.judge.pairwise import Pair
from nomoat.judge.votes import Answer, Vote, cast

HI = ({"role": "user", "content": "?"},)


def by_words(pairs: Sequence[Pair]) -> Measuring[list[float]]:
    """A judge that likes "good", dislikes "odd", and sees no difference elsewhere."""
    yield from ()
    taste = {"good": 1.0, "odd": -1.0}
    return [taste.get(pair.first, 0.0) - taste.get(pair.second, 0.0) for pair in pairs]


def test_verdicts_that_are_the_voters_are_counted_among_those_that_are_no_tie() -> None:
    voted = [Preference(HI, "good", "bad")] * 6 + [Preference(HI, "odd", "bad")] * 2 + [Preference(HI, "x", "y")] * 2
    found = returned(with_votes(by_words, "mine", voted))
    assert (found.votes, found.settled, found.share.value) == (10, 8, 0.75)
    assert found.share.low < 0.75 < found.share.high
    nothing = returned(with_votes(by_words, "mine", voted[-2:]))
    assert (nothing.settled, nothing.share.low, nothing.share.high) == (0, 0.0, 1.0)


def test_one_voter_agrees_with_nobody_and_two_with_each_other() -> None:
    store = Store()
    for number in range(4):
        asked = ({"role": "user", "content": f"{number}?"},)
        cast(store, Vote("mine", "ann", asked, "a", "b", Answer("x"), Answer("y"), "model_a"))
    assert among_voters(store, "mine") is None
    for number in range(4):
        asked = ({"role": "user", "content": f"{number}?"},)
        cast(store, Vote("mine", "ben", asked, "a", "b", Answer("x"), Answer("y"), "model_a" if number else "tie"))
    found = among_voters(store, "mine")
    assert found is not None and (found.questions, found.share.value) == (4, 0.75)
