"""The verbs of the judge: exam, duel, reviews, on a tiny base."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from nomoat.cli.environment import Environment
from nomoat.cli.exam import print_exam
from nomoat.cli.grade import print_grades
from nomoat.cli.main import main
from nomoat.core.store import Store
from nomoat.judge.ratings import Winner
from nomoat.judge.votes import Answer, Vote, cast
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import load_base
from tiny import tiny_folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A home with the base ``tiny``, and labelled pairs."""
    tiny_folder(Store().path("bases", "tiny"), max_position_embeddings=4096, num_hidden_layers=1)
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n}?", "chosen": f"yes {n}" + "." * (n % 2 * 9), "rejected": f"no, {n}"} for n in range(24)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def run(*argv: str) -> tuple[int, list[dict[str, object]]]:
    env = Environment(stdout=io.StringIO(), stderr=io.StringIO())
    code = main([*argv, "--json"], env)
    return code, [json.loads(line) for line in env.stdout.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_base_that_knows_nothing_fails_the_exam(pairs: Path) -> None:
    code, records = run("exam", "tiny", str(pairs))
    result = records[-1]["result"]
    assert code == 1
    assert isinstance(result, dict) and not result["passed"]
    assert [part["name"] for part in result["parts"]][:3] == ["agreement", "consistency", "length"]


def test_an_exam_on_votes_says_how_far_the_voters_agree_with_each_other(pairs: Path) -> None:
    answers = Answer("yes"), Answer("no")
    for number in range(24):
        for voter in ("ann", "ben"):
            winner: Winner = "model_b" if voter == "ben" and number < 6 else "model_a"
            asked = ({"role": "user", "content": f"{number}?"},)
            cast(Store(), Vote("mine", voter, asked, "a", "b", *answers, winner))
    _, records = run("exam", "tiny", "votes:mine", "--limit", "20")
    result = records[-1]["result"]
    assert isinstance(result, dict)
    assert result["voters"]["questions"] == 24 and result["voters"]["share"]["value"] == 0.75
    env = Environment(stdout=io.StringIO(), stderr=io.StringIO())
    print_exam(result, env)
    assert "agree with each other on 75" in env.stdout.getvalue()  # type: ignore[attr-defined]
    _, records = run("exam", "tiny", str(pairs), "--votes", "mine", "--limit", "20")
    result = records[-1]["result"]
    assert isinstance(result, dict) and result["votes"]["votes"] == 20 and result["voters"]["questions"] == 24
    print_exam(result, env)
    assert "votes in mine; on " in env.stdout.getvalue()  # type: ignore[attr-defined]


def test_the_rates_of_a_judge_that_failed_are_withheld(pairs: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"{n}?", "completion": "x"}) for n in range(3)))
    code, records = run(
        "duel", "tiny", "tiny", "--data", str(rows), "--judge", "tiny", "--pairs", str(pairs), "--max-tokens", "4"
    )
    result = records[-1]["result"]
    assert code == 1
    assert isinstance(result, dict) and result["questions"] == 3
    assert result["duel"]["rate"] is None and "failed its exam" in result["duel"]["withheld"]
    assert {each["winner"] for each in result["verdicts"]} <= {"model_a", "model_b", "tie"}


def test_a_duel_without_a_judge_says_what_is_missing() -> None:
    code, records = run("duel", "a", "b", "--data", "x")
    assert code == 2
    assert "--judge is missing" in str(records[-1]["message"])


@pytest.fixture
def mt_bench(tmp_path: Path) -> tuple[Path, Path]:
    """Questions of two turns, and a folder of three models' answers to them."""
    questions = tmp_path / "question.jsonl"
    rows = [{"question_id": n, "category": "maths", "turns": [f"{n}?", "And then?"]} for n in range(3)]
    questions.write_text("\n".join(json.dumps(row) for row in rows))
    for model in ("a", "b", "c"):
        said = [
            {"question_id": n, "model_id": model, "choices": [{"turns": [f"{model} {n}", f"{model} later"]}]}
            for n in range(3)
        ]
        path = tmp_path / "model_answer" / f"{model}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(json.dumps(row) for row in said))
    return questions, tmp_path / "model_answer"


def test_a_model_meets_a_file_of_answers_over_two_turns_and_both_are_saved(
    pairs: Path, mt_bench: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, folder = mt_bench
    code, records = run(
        "duel", "tiny", str(folder / "a.jsonl"), "--data", str(questions), "--judge", "tiny", "--pairs", str(pairs),
        "--max-tokens", "4", "--save", str(tmp_path / "out"),
    )  # fmt: skip
    result = records[-1]["result"]
    assert code == 1 and isinstance(result, dict)
    assert (result["model_a"], result["model_b"], result["questions"]) == ("tiny", "a", 3)
    assert [each["turn"] for each in result["verdicts"]] == [1, 2] * 3
    assert result["verdict"] == "likelihood"
    saved = {path.name for path in (tmp_path / "out").glob("*/*")}
    assert saved == {"tiny.jsonl", "a.jsonl", "tiny_pair.jsonl"}
    code, records = run("rank", str(tmp_path / "out"), "--judgments")
    ranked = records[-1]["result"]
    assert code == 0 and isinstance(ranked, dict) and ranked["battles"] == 6
    assert {each["model"] for each in ranked["ratings"]} == {"tiny", "a"}


def test_a_ranking_by_a_judge_that_failed_is_withheld(pairs: Path, mt_bench: tuple[Path, Path]) -> None:
    questions, folder = mt_bench
    code, records = run(
        "rank", str(folder), "--data", str(questions), "--judge", "tiny", "--pairs", str(pairs), "--battles", "7"
    )
    result = records[-1]["result"]
    assert code == 1 and isinstance(result, dict)
    assert result["battles"] == 7 and "failed its exam" in result["withheld"] and "ratings" not in result


def test_answers_are_graded_by_the_users_rubric_and_the_ratings_of_a_failed_judge_withheld(
    pairs: Path, mt_bench: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, folder = mt_bench
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Is it short?")
    rated = tmp_path / "rated.jsonl"
    rated.write_text("\n".join(json.dumps({"prompt": "?", "answer": "x" * n, "score": n}) for n in range(4)))
    code, records = run(
        "grade", str(folder / "a.jsonl"), "--data", str(questions), "--judge", "tiny", "--pairs", str(pairs),
        "--rubric", str(rubric), "--scale", "1-5", "--scores", str(rated), "--save", str(tmp_path / "out"),
    )  # fmt: skip
    result = records[-1]["result"]
    assert code == 1 and isinstance(result, dict)
    assert len(result["ratings"]) == 6 and all(1 < each["score"] < 5 for each in result["ratings"])
    assert result["means"] == {} and "failed its exam" in result["withheld"]
    assert -1 <= result["labels"]["correlation"]["value"] <= 1
    assert (tmp_path / "out" / "model_judgment" / "tiny_single.jsonl").is_file()
    env = Environment(stdout=io.StringIO(), stderr=io.StringIO())
    print_grades(result, env)
    assert "rank correlation with 4" in env.stdout.getvalue()  # type: ignore[attr-defined]
    assert "withheld: the judge failed" in env.stdout.getvalue()  # type: ignore[attr-defined]


def test_people_read_a_table_of_votes(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    rows = [{"model_a": "a", "model_b": "b", "winner": winner} for winner in ("model_a", "model_a", "tie")]
    votes.write_text("\n".join(json.dumps(row) for row in rows))
    env = Environment(stdout=io.StringIO(), stderr=io.StringIO())
    assert main(["rank", str(votes), "--judgments"], env) == 0
    assert "3 comparisons" in env.stdout.getvalue()  # type: ignore[attr-defined]


def test_drawn_verdicts_say_what_so_many_battles_would_tell(mt_bench: tuple[Path, Path]) -> None:
    questions, folder = mt_bench
    env = Environment(stdout=io.StringIO(), stderr=io.StringIO())
    asked = ["rank", str(folder.parent), "--data", str(questions), "--simulate", "400", "--battles", "300"]
    assert main(asked, env) == 0
    said = env.stdout.getvalue()  # type: ignore[attr-defined]
    assert "planted" in said and "of 3 planted strengths lie in their intervals" in said
    code, records = run(*asked, "--judgments")
    assert code == 2 and "leave one of them out" in str(records[-1])


@pytest.mark.parametrize("verb", [["rank", "x"], ["grade", "x"]])
def test_what_is_missing_is_said(verb: list[str]) -> None:
    code, records = run(*verb)
    assert code == 2 and "--data is missing" in str(records[-1]["message"])


@pytest.mark.parametrize("kind", ["adapter", "reward", "reward-head"])
def test_a_judge_goes_to_school_and_sits_the_same_exam_twice(kind: str, pairs: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "chosen": f"yes {n}" + "." * (n % 2 * 9), "rejected": f"no, {n}"} for n in range(150)]
    pairs.write_text("\n".join(json.dumps(row) for row in rows))
    flags = ["--name", "strict", "--kind", kind, "--max-steps", "2", "--rank", "4", "--threads", "1"]
    flags += ["--probe-seconds", "0"]
    flags += ["--max-seq-len", "2048", "--batch-size", "4", "--exam-limit", "20", "--lr", "0.01"]
    code, records = run("school", "tiny", str(pairs), *flags)
    result = records[-1]["result"]
    assert isinstance(result, dict), records[-1]
    assert code == 1 and result["judge"] == "tiny+strict"
    names = [[part["name"] for part in result[when]["parts"]] for when in ("before", "after")]
    assert names[0] == names[1] and result["pairs"] == 20
    assert result["before"] != result["after"]  # it learned something
    assert (Store().path("data", "strict-pairs") / "exam.jsonl").is_file()
    again = run("exam", "tiny+strict", str(Store().path("data", "strict-pairs") / "exam.jsonl"), "--limit", "20")[1]
    sat = again[-1]["result"]
    assert isinstance(sat, dict) and sat["parts"] == result["after"]["parts"]
    config = json.loads((Store().path("adapters", "strict") / "adapter_config.json").read_text())
    assert config["task_type"] == ("CAUSAL_LM" if kind == "adapter" else "SEQ_CLS")


def test_a_reward_model_gives_no_ratings_and_writes_no_review(pairs: Path, mt_bench: tuple[Path, Path]) -> None:
    folder = tiny_folder(Store().path("bases", "tiny"), max_position_embeddings=4096, num_hidden_layers=1)
    base = load_base(folder, name="tiny")
    adapter = base.new_adapter(AdapterConfig(rank=2, reward_head=True), seed=0, name="rm")
    with Store().writing("adapters", "rm") as place:
        save_adapter(adapter, place)
    questions, answers = mt_bench
    asked = ["--data", str(questions), "--judge", "tiny+rm", "--pairs", str(pairs)]
    code, records = run("grade", str(answers / "a.jsonl"), *asked)
    assert code == 2 and "no scale" in str(records[-1]["message"])
    code, records = run("exam", "tiny+rm", str(pairs), "--verdict", "auto")
    assert code == 2 and "writes nothing" in str(records[-1]["message"])
    result = run("rank", str(answers), *asked, "--battles", "4")[1][-1]["result"]
    assert isinstance(result, dict) and result["battles"] == 4
    code, records = run("school", "tiny+rm", str(pairs), "--name", "again")
    assert code == 2 and "a reward model already" in str(records[-1]["message"])
    consistency = next(part for part in result["exam"]["parts"] if part["name"] == "consistency")
    assert consistency["share"]["value"] == 1.0  # an answer is read alone: no order can sway it


def test_a_school_without_a_name_is_refused(pairs: Path) -> None:
    code, records = run("school", "tiny", str(pairs))
    assert code == 2 and "name is missing" in str(records[-1]["message"])
