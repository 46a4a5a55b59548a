"""Whether a skill has passed, from what the four models did on the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from nomoat.data.encode_options import EncodeOptions
from nomoat.judge.checks import make_check
from nomoat.judge.measure import RowLoss
from nomoat.judge.side import Side
from nomoat.judge.task import Chosen, Task
from nomoat.move.job import _sentence
from nomoat.move.trial import SUBJECTS, SkillResult, SkillTrial, as_dict, is_better_untaught, judged

ROWS = 40


def result(**nats: float) -> SkillResult:
    """A skill of rows of ten bytes, each subject's loss about ``nats`` a row."""
    rows = [{"prompt": f"{n}?", "completion": "ten bytes."} for n in range(ROWS)]
    task = Task(list(range(ROWS)), rows, [[] for _ in rows], 0, {}, EncodeOptions())
    trial = SkillTrial("french", Chosen(make_check("loss"), "", "user"), task, task, np.full(ROWS, 10.0))
    noise = np.random.default_rng(0).normal(0, 0.2, (len(SUBJECTS), ROWS))
    sides = {
        word: Side([RowLoss(nats[word.replace(" ", "_")] + each, 4) for each in own], [None] * ROWS, [])
        for word, own in zip(SUBJECTS, noise)
    }
    return judged(trial, sides, keep=0.9, seed=0)


def test_a_skill_passes_that_keeps_its_gain_and_helps_the_new_base() -> None:
    found = result(old_base=9.2, old_stack=8.5, new_base=9.0, moved=8.4)
    assert found.passed and not is_better_untaught(found.trial, found.sides, 0)


def test_a_gain_that_is_lost_does_not_pass() -> None:
    assert not result(old_base=9.2, old_stack=8.5, new_base=9.0, moved=8.9).passed


@pytest.mark.parametrize("moved", [5.4, 8.4])
def test_a_student_that_is_worse_than_its_base_alone_has_learned_from_a_worse_teacher(moved: float) -> None:
    found = result(old_base=9.2, old_stack=8.5, new_base=4.8, moved=moved)
    assert found.kept.value is not None and found.kept.value > 0.9
    assert not found.passed
    assert is_better_untaught(found.trial, found.sides, 0)
    line = as_dict(found, 0.9, 0)
    assert line["beside_new_base"]["verdict"] == "worse" and "alone is better at it" in _sentence(line)
