"""``nomoat arena`` in a terminal: blind answers, votes, ratings, exports."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from nomoat.judge.votes import votes
from tiny import tiny_folder


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A home with two bases, and a file of questions."""
    for number, name in enumerate(("one", "two")):
        tiny_folder(Store().path("bases", name), seed=number)
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"{n}?", "completion": "x"}) for n in range(3)))
    return path


def play(typed: str, *argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["arena", *argv], Environment(stdin=io.StringIO(typed), stdout=out, stderr=err))
    return code, out.getvalue(), err.getvalue()


def test_names_are_told_only_after_the_vote(questions: Path) -> None:
    code, out, err = play("1 clearer\nq\n", "one", "two", "--terminal", "--data", str(questions), "--max-tokens", "4")
    assert code == 0
    before, _, after = err.partition("1 was ")
    assert "one" not in before and "two" not in before
    assert "2 was" in after
    kept = votes(Store(), "arena")
    assert len(kept) == 1 and kept[0].note == "clearer"
    assert "cannot be told with fewer than" in out


def test_a_typed_question_is_asked_and_the_votes_are_exported(questions: Path) -> None:
    play("why?\nt\n\n", "one", "two", "--terminal", "--name", "mine", "--max-tokens", "2")
    code, out, _ = play("", "--name", "mine", "--export", "fastchat")
    row = json.loads(out)
    assert code == 0
    assert row["winner"] == "tie" and row["conversation_a"][0] == {"role": "user", "content": "why?"}
    code, out, _ = play("", "--name", "mine", "--standing", "--json")
    assert {each["model"] for each in json.loads(out)["ratings"]} == {"one", "two"}


def test_a_question_of_two_turns_is_shown_whole_and_voted_on_once(questions: Path) -> None:
    turns = [{"question_id": 1, "category": "writing", "turns": ["Write.", "Shorter."]}]
    questions.write_text("\n".join(json.dumps(row) for row in turns))
    _, _, err = play("2\n", "one", "two", "--terminal", "--data", str(questions), "--limit", "1", "--max-tokens", "2")
    assert "(turn 1) Write.\n\n(turn 2) Shorter.\n\n--- 1 ---\n(turn 1) " in err
    (kept,) = votes(Store(), "arena")
    assert kept.later == ("Shorter.",) and len(kept.answer_a.later) == 1 and kept.category == "writing"


def test_a_key_that_is_no_vote_is_asked_again(questions: Path) -> None:
    play("x\n2\n", "one", "two", "--terminal", "--data", str(questions), "--limit", "1", "--max-tokens", "2")
    assert len(votes(Store(), "arena")) == 1


def test_an_arena_of_one_is_refused(questions: Path) -> None:
    code, _, err = play("", "one", "--data", str(questions))
    assert code == 2
    assert "two or more different models" in err


def test_other_machines_are_let_in_only_with_named_voters(questions: Path) -> None:
    code, _, err = play("", "one", "two", "--host", "0.0.0.0")
    assert code == 2
    assert "--voters" in err


def test_the_leaderboard_is_printed_in_every_form_and_written_as_a_page(questions: Path, tmp_path: Path) -> None:
    play("1\n", "one", "two", "--terminal", "--data", str(questions), "--limit", "1", "--max-tokens", "2")
    page = tmp_path / "out" / "board.html"
    code, out, err = play("", "--report", str(page), "--export", "csv")
    assert code == 0 and "1 vote\n" in err
    assert out.splitlines()[0].startswith("place,model,rating")
    assert "</html>" in page.read_text()
    assert play("", "--export", "markdown")[1].startswith("# Arena arena")
    assert json.loads(play("", "--export", "json")[1])["votes"] == 1


def test_without_a_flag_it_is_a_page_that_ends_well(questions: Path) -> None:
    words = ["arena", "one", "two", "--data", str(questions), "--port", "0", "--voters", "ann,ben", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nomoat", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        links = json.loads(process.stdout.readline())["links"]
        assert set(links) == {"ann", "ben"} and links["ann"] != links["ben"]
        with httpx.Client(follow_redirects=True, timeout=60) as http:
            assert "nomoat arena" in http.get(links["ben"]).text
            state = http.get(links["ben"].partition("/join/")[0] + "/arena/state").json()
            assert (state["voter"], state["questions"], state["votes"]) == ("ben", 3, 0)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=180)
        assert process.returncode == 0 and "stopped" in told and "Traceback" not in told
    finally:
        process.kill()
        process.communicate()


def test_the_standing_of_an_empty_arena_says_how_to_vote() -> None:
    code, _, err = play("", "--standing")
    assert code == 3
    assert "no votes" in err
