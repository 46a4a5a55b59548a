"""How far voters agree: a published example, known cases, and what is not counted."""

from __future__ import annotations

import numpy as np
import pytest

from nomoat.judge.agreement import agreements, measured
from nomoat.judge.ratings import Winner
from nomoat.judge.votes import Answer, Vote

# Four observers and twelve units, ``None`` where one said nothing: Krippendorff 2011, section C. Alpha is 0.743.
GIVEN = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def vote(voter: str, question: int, winner: Winner, **more: object) -> Vote:
    asked = ({"role": "user", "content": f"{question}?"},)
    return Vote("mine", voter, asked, "a", "b", Answer("x"), Answer("y"), winner, **more)  # type: ignore[arg-type]


def test_alpha_of_a_published_example_is_the_published_one() -> None:
    units = [[each for each in unit if each is not None] for unit in zip(*GIVEN)]
    counts = np.array([np.bincount(unit, minlength=6) for unit in units if len(unit) > 1], dtype=np.float64)
    _, alpha = measured(counts)
    assert alpha is not None
    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert alpha.low < alpha.value < alpha.high < 1.001


def test_voters_who_always_agree_or_guess_are_told_apart() -> None:
    winners: list[Winner] = ["model_a", "model_b"] * 40
    same = [vote(name, n, winner) for n, winner in enumerate(winners) for name in ("ann", "ben")]
    (found,) = agreements(same)
    assert (found.voters, found.questions, found.share.value) == (("ann", "ben"), 80, 1.0)
    assert found.alpha is not None and found.alpha.value == 1.0
    rng = np.random.default_rng(0)
    guessed = [vote(name, n, winners[rng.integers(2)]) for n in range(200) for name in ("ann", "ben")]
    (found,) = agreements(guessed)
    assert found.alpha is not None and found.alpha.low < 0 < found.alpha.high
    assert 0.4 < found.share.value < 0.6


def test_the_interval_covers_what_many_voters_would_show() -> None:
    """Voters who say the truth four times in five: two of them agree in 0.8^2 + 0.2^2 = 0.68 of all cases."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        truth = rng.integers(0, 2, 60)
        said = [np.where(rng.random(60) < 0.8, truth, 1 - truth) for _ in range(2)]
        counts = np.stack([sum((side == each).astype(float) for side in said) for each in (0, 1)], axis=1)
        share, _ = measured(counts, resamples=300)
        covered += share.low <= 0.68 <= share.high
    assert 0.88 <= covered / 200 <= 0.99


def test_every_two_voters_are_compared_and_a_voters_last_word_counts() -> None:
    cast = [vote(name, n, "model_a") for n in range(3) for name in ("ann", "ben", "cyd")]
    cast += [vote("ann", 0, "tie"), vote("ben", 0, "both_bad"), vote("dee", 7, "tie")]
    found = agreements(cast)
    assert [each.voters for each in found] == [
        ("ann", "ben", "cyd", "dee"), ("ann", "ben"), ("ann", "cyd"), ("ben", "cyd")
    ]  # fmt: skip
    assert found[1].share.value == 1.0 and found[2].share.value == pytest.approx(2 / 3)
    assert agreements([vote("ann", 0, "tie"), vote("ben", 0, "tie")]) == ()
    assert found[1].share.low < 0.5  # three questions prove little
    alike = [vote(name, n, "model_a") for n in range(3) for name in ("ann", "ben")]
    assert agreements(alike)[0].alpha is None


def test_another_further_question_is_another_item() -> None:
    cast = [vote("ann", 0, "tie", later=("a",)), vote("ben", 0, "tie", later=("b",)), vote("ben", 1, "tie")]
    assert agreements(cast) == ()
