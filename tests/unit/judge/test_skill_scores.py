"""Skills of a stack scored by right answers, in the report and in the search."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from nomoat.core.records import returned
from nomoat.core.store import Store
from nomoat.engine.generate import Engine, Request
from nomoat.engine.sampling import Sampling
from nomoat.judge.skill_scores import by_checks
from nomoat.judge.task import prompt_of
from nomoat.stack.job import OpenStack, open_parts
from nomoat.stack.options import NATS, SkillOptions
from nomoat.stack.report import report
from nomoat.stack.search import search
from nomoat.stack.skills import Skill, read_skills
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune
from outcome import finished
from tiny import tiny_folder

ANSWERS = {"colours": "blue", "essays": "a long tale of many words that nobody could match word for word"}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, OpenStack]:
    """Two skills that learned apart: one with an answer to compare, one of free text."""
    torch.set_num_threads(1)
    store = Store(tmp_path_factory.mktemp("skills") / "home")
    tiny_folder(store.path("bases", "tiny"))
    plain = TuneOptions(base="tiny", rank=4, lr=1e-2, threads=1, probe_seconds=0.0, epochs=4.0)
    for name, answer in ANSWERS.items():
        with store.writing("data", name) as folder:
            for split, start, count in (("train", 0, 24), ("valid", 60, 5), ("test", 80, 5)):
                rows = [{"prompt": f"{name} {n}", "completion": answer} for n in range(start, start + count)]
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for _ in tune(dataclasses.replace(plain, data=name, name=name[:-1]), store):
            pass
    return store, open_parts(store, ["colour", "essay"])


def right(opened: OpenStack, skill: Skill, weights: tuple[float, float]) -> float:
    stack = tuple(zip(opened.adapters, weights))
    asked = [Request(prompt_of(row), Sampling(max_tokens=12), stack) for row in skill.rows]
    texts = [one.text.strip() for one in Engine(opened.base).complete(asked)]
    return sum(text == "blue" for text in texts) / len(texts)


def test_a_report_counts_right_answers_and_takes_losses_for_free_text(opened: tuple[Store, OpenStack]) -> None:
    store, stack = opened
    done, _ = finished(report(stack, SkillOptions(limit=5), store, by_checks(stack.base, store)))
    scores = done.result["scores"]
    assert [skill["unit"] for skill in scores["skills"]] == ["share wrong, check normalised", NATS]
    subsets = {tuple(each["adapters"]): each for each in scores["subsets"]}
    assert subsets[()]["scores"][0] == 1.0 and subsets[("colour",)]["scores"][0] == 0.0
    assert subsets[("colour",)]["kept"][0] == 1.0 and subsets[("colour",)]["lost"] == []
    whole = subsets[("colour", "essay")]
    assert whole["lost"] == [skill["data"] for skill, kept in zip(scores["skills"], whole["kept"]) if kept < 0.95]


def test_a_search_takes_the_finalist_that_answers_best(opened: tuple[Store, OpenStack]) -> None:
    store, stack = opened
    scoring = by_checks(stack.base, store)
    seen: list[tuple[str, float]] = []

    def score(skill: Skill, worn: tuple) -> float:  # type: ignore[type-arg]
        seen.append((skill.data, found := scoring.score(skill, worn)))
        return found

    options = SkillOptions(limit=5, budget=8, gradient_steps=1, finalists=2, keep=0.5)
    done, _ = finished(search(stack, options, store, dataclasses.replace(scoring, score=score)))
    result = done.result
    assert result["units"][0] == "share wrong, check normalised"
    finals = [found for data, found in seen if data == "colours"][2:5]  # after the bare base and the adapter alone
    assert len(finals) == 3
    assert result["kept_valid"][0] == pytest.approx(1 - min(finals)) or result["kept_valid"][1] < 1
    assert all(min(each["kept"]) >= 0.5 for each in result["within"])


def test_the_score_is_what_the_model_answers(opened: tuple[Store, OpenStack]) -> None:
    store, stack = opened
    scoring = by_checks(stack.base, store)
    reading = read_skills(store, stack.base, stack.worn, stack.folders, data=(), split="test", limit=5)
    skill = returned(reading)[0]
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        found = scoring.score(skill, tuple(zip(stack.adapters, weights)))
        assert found == pytest.approx(1 - right(stack, skill, weights))
