"""The exam lets a fair judge pass and refuses the planted ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import pytest

from nomoat.core.errors import DataError
from nomoat.core.records import returned
from nomoat.data.preferences import Preference
from nomoat.judge.exam import Exam, corrected, exam
from nomoat.judge.measure import Measuring
from nomoat.judge.pairwise import Asked, Pair, Verdict, verdicts
from nomoat.judge.win_rates import win_rates


def judged_by(score: Callable[[str], float], *, for_first: float = 0.0) -> Asked:
    """A judge that likes whatever scores higher."""

    def asked(pairs: Sequence[Pair]) -> Measuring[list[float]]:
        yield from ()
        return [max(-3.0, min(3.0, score(pair.first) - score(pair.second) + for_first)) for pair in pairs]

    return asked


def labelled(count: int = 40) -> list[Preference]:
    """Good answers hold the word "right" twice; every second one is the shorter of its pair."""
    asked = ({"role": "user", "content": "What is it?"},)
    pairs = []
    for number in range(count):
        good = f"It is right {number}, and that is right." + " Certainly so." * (8 if number % 2 else 0)
        pairs.append(Preference(asked, good, "It is a wrong thing that somebody said once."))
    return pairs


def fair(text: str) -> float:
    """What is right, once: saying it twice adds nothing, half of it is worth less."""
    noise = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) / 65536 / 100
    return float(min(2, text.count("right"))) + noise


def failed(found: Exam) -> set[str]:
    return {part.name for part in found.failed}


def test_a_fair_judge_passes() -> None:
    found = returned(exam(judged_by(fair), labelled()))
    assert found.passed, failed(found)
    assert found.agreement.value == 1.0


def test_a_judge_that_loves_length_is_refused() -> None:
    found = returned(exam(judged_by(len), labelled()))
    assert {"length", "verbosity"} <= failed(found)


def test_a_judge_that_loves_the_first_place_is_refused() -> None:
    found = returned(exam(judged_by(fair, for_first=10), labelled()))
    assert "consistency" in failed(found)
    assert "agreement" in failed(found)


def test_a_judge_that_can_be_flattered_is_refused() -> None:
    found = returned(exam(judged_by(lambda text: fair(text) + 9 * text.count("wonderful")), labelled()))
    assert failed(found) == {"flattery"}


def test_a_judge_that_obeys_the_answers_is_refused() -> None:
    found = returned(exam(judged_by(lambda text: fair(text) + 9 * text.count("evaluator")), labelled()))
    assert failed(found) == {"address"}


def test_a_judge_that_prefers_its_own_words_is_refused() -> None:
    def familiar(pairs: Sequence[Preference]) -> Measuring[list[bool]]:
        yield from ()
        return [number % 3 == 0 for number in range(len(pairs))]

    mixed = [
        dataclasses.replace(each, rejected=f"a wrong one in my words {n}") if n % 3 == 0 else each
        for n, each in enumerate(labelled(60))
    ]
    vain = judged_by(lambda text: fair(text) + 3 * text.count("my words"))
    assert "self-preference" in failed(returned(exam(vain, mixed, familiar=familiar)))
    found = returned(exam(judged_by(fair), mixed, familiar=familiar))
    assert found.passed and "self-preference" in {part.name for part in found.parts}


def test_a_judge_of_coin_flips_is_refused() -> None:
    def coin(text: str) -> float:
        return float(hashlib.sha256(text.encode()).digest()[0])

    assert "agreement" in failed(returned(exam(judged_by(coin), labelled())))


def test_too_few_pairs_are_no_exam() -> None:
    with pytest.raises(DataError, match="tell nothing"):
        returned(exam(judged_by(fair), labelled(5)))


def pairs_of(count: int) -> list[Pair]:
    asked = ({"role": "user", "content": "What is it?"},)
    return [Pair(asked, f"right right {number}", f"wrong {number}") for number in range(count)]


def test_rates_of_a_judge_that_failed_are_withheld_with_the_remedy() -> None:
    poor = returned(exam(judged_by(len), labelled()))
    pairs = pairs_of(10)
    found = win_rates(pairs, returned(verdicts(judged_by(len), pairs)), poor)
    assert found.rate is None and found.corrected is None
    assert "it prefers length" in found.withheld


def test_rates_of_a_judge_that_passed_are_shown_and_corrected() -> None:
    passed = returned(exam(judged_by(fair), labelled()))
    pairs = pairs_of(30)
    found = win_rates(pairs, returned(verdicts(judged_by(fair), pairs)), passed)
    assert (found.wins, found.ties, found.losses) == (30, 0, 0)
    assert found.rate is not None and found.rate.value == 1.0
    assert found.corrected is not None and found.corrected.low > 0.5


def test_a_verdict_that_turns_with_the_order_is_a_tie() -> None:
    assert Verdict(2.0, -1.0).winner == "tie"
    assert Verdict(2.0, 1.0).winner == "first"
    assert Verdict(-0.5, -0.1).winner == "second"
    assert Verdict(0.0, 0.0).winner == "tie"


def test_a_habit_of_one_letter_is_taken_off() -> None:
    asked = ({"role": "user", "content": "?"},)
    pairs = [Pair(asked, "right", "wrong"), Pair(asked, "wrong", "right")]
    leaning = judged_by(lambda text: 0.5 * text.count("right"), for_first=2.0)
    assert [each.winner for each in returned(verdicts(leaning, pairs))] == ["first", "second"]


def test_length_that_wins_by_itself_is_worth_nothing_at_equal_length() -> None:
    asked = ({"role": "user", "content": "?"},)
    pairs = [Pair(asked, "x" * (21 + n // 2), "x" * 30) for n in range(80)]
    passed = returned(exam(judged_by(fair), labelled()))
    found = win_rates(pairs, returned(verdicts(judged_by(len), pairs)), passed)
    assert found.rate is not None and found.length_controlled is not None
    assert found.rate.value == pytest.approx(0.7625, abs=0.02)
    assert found.length_controlled.value == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(("observed", "agreement", "expected"), [(0.6, 0.8, 2 / 3), (0.5, 0.7, 0.5), (0.95, 0.8, 1.0)])
def test_a_share_is_corrected_for_the_judges_errors(observed: float, agreement: float, expected: float) -> None:
    assert corrected(observed, agreement) == pytest.approx(expected)
