"""A judge learns its own question in both orders, never what it is examined on, and not that longer is better."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core.errors import DataError, UsageError
from nomoat.core.store import Store, read_lineage
from nomoat.data.load import load_rows
from nomoat.data.preferences import Preference, read_preferences
from nomoat.judge.attacks import ATTACKS, padded
from nomoat.judge.lessons import EXAM_FILE, lessons_of, read_pairs, rows_of, write_lessons
from nomoat.judge.pairwise import Pair, question
from nomoat.judge.planted import planted
from nomoat.judge.verdict_options import SchoolOptions
from nomoat.judge.votes import Answer, Vote, cast


def pairs(count: int = 150) -> list[Preference]:
    """Three pairs a prompt; of every four the better answer is the longer one in three."""
    return [
        Preference(
            ({"role": "user", "content": f"{number // 3}?"},),
            f"right {number}" + " indeed" * (number % 4 > 0),
            f"a wrong {number}" + " as it were" * (number % 4 == 0),
        )
        for number in range(count)
    ]


def test_every_pair_becomes_the_judges_own_question_in_both_orders() -> None:
    (each,) = pairs(1)
    first, second = rows_of([each])
    pair = Pair(each.messages, each.chosen, each.rejected)
    assert first["messages"] == [*question(pair), {"role": "assistant", "content": "A"}]
    assert second["messages"] == [*question(pair.swapped()), {"role": "assistant", "content": "B"}]


def test_no_prompt_stands_on_two_sides_and_the_split_is_the_same_again() -> None:
    lessons = lessons_of(pairs(), test=0.2, seed=0)
    asked = [
        {each.messages[0]["content"] for each in part}
        for part in (lessons.learned, lessons.chosen_by, lessons.examined)
    ]
    assert not asked[0] & asked[1] and not asked[0] & asked[2] and not asked[1] & asked[2]
    assert len(lessons.examined) >= 20
    again = lessons_of(pairs()[::-1], test=0.2, seed=0)
    assert asked[2] == {each.messages[0]["content"] for each in again.examined}


def test_longer_is_as_often_better_as_worse_among_what_is_learned() -> None:
    lessons = lessons_of(pairs(), test=0.2, seed=0)
    longer = sum(len(each.chosen) > len(each.rejected) for each in lessons.learned)
    shorter = sum(len(each.chosen) < len(each.rejected) for each in lessons.learned)
    assert longer == shorter > 0 and lessons.left_out > 0
    assert lessons_of(pairs(), test=0.2, seed=0, balance=False).left_out == 0


def test_attacks_are_planted_among_what_is_learned_and_nowhere_else() -> None:
    plain, attacked = (lessons_of(pairs(), test=0.2, seed=0, attacks=share, balance=False) for share in (0.0, 0.3))
    added = [each for each in attacked.learned if each not in plain.learned]
    assert len(attacked.learned) == len(plain.learned) + len(added)
    assert len(added) == pytest.approx(0.3 * len(plain.learned), abs=1)
    better = [(each.messages, each.chosen) for each in plain.learned]
    assert all((each.messages, each.chosen) in better and each.rejected != each.chosen for each in added)
    assert attacked.chosen_by == plain.chosen_by and attacked.examined == plain.examined
    assert lessons_of(pairs(), test=0.2, seed=0, attacks=0.3, balance=False) == attacked


def test_the_exams_own_words_are_not_taught() -> None:
    taught = planted(pairs(), 1.0, 0)
    assert len({each.rejected for each in taught}) > 60
    for each in taught:
        asked = {attack.made(each.chosen) for attack in ATTACKS} | {padded(each.chosen)}
        assert each.rejected not in asked
    assert planted(pairs(1), 1.0, 0) and not planted([], 1.0, 0) and not planted(pairs(), 0.0, 0)


@pytest.mark.parametrize(("share", "name"), [("held_out", "--held-out"), ("attacks", "--attacks")])
def test_a_share_above_one_is_refused(share: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} cannot be 1.5"):
        SchoolOptions(judge="tiny", pairs="pairs.jsonl", name="strict", **{share: 1.5})  # type: ignore[arg-type]


def test_too_few_pairs_are_refused_with_the_count() -> None:
    with pytest.raises(DataError, match="30 pairs leave"):
        lessons_of(pairs(30), test=0.2, seed=0)


def test_the_exam_can_be_repeated_from_the_data_set(tmp_path: Path) -> None:
    store = Store()
    lessons = lessons_of(pairs(), test=0.2, seed=0)
    folder = write_lessons(store, "strict-pairs", lessons, "votes:mine", {"seed": 0}, replace=False)
    assert read_preferences(folder / EXAM_FILE) == lessons.examined
    assert load_rows(folder, "train") == rows_of(lessons.learned)
    lineage = read_lineage(folder)
    assert lineage is not None and lineage.metrics["test"] == len(lessons.examined)


def test_the_users_votes_are_labelled_pairs() -> None:
    store = Store()
    asked = ({"role": "user", "content": "?"},)
    for winner, a, b in (("model_a", "yes", "no"), ("model_b", "no", "yes"), ("tie", "x", "y"), ("model_a", "z", "z")):
        cast(store, Vote("mine", "me", asked, "a", "b", Answer(a), Answer(b), winner))  # type: ignore[arg-type]
    assert [(each.chosen, each.rejected) for each in read_pairs(store, "votes:mine")] == [("yes", "no")] * 2
    turns = (Answer("one", later=("two",)), Answer("uno", later=("due",)))
    cast(store, Vote("longer", "me", asked, "a", "b", *turns, "model_b", later=("go on",)))
    (pair,) = read_pairs(store, "votes:longer")
    assert (pair.chosen, pair.rejected) == ("(turn 1) uno\n\n(turn 2) due", "(turn 1) one\n\n(turn 2) two")
    assert pair.messages[-1]["content"] == "(turn 2) go on"
    with pytest.raises(DataError, match="no vote with a winner"):
        read_pairs(store, "votes:other")
