"""The verbs of the judge: exam, duel, reviews, on a tiny base."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from tiny import tiny_folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A home with the base ``tiny``, and labelled pairs."""
    tiny_folder(Store().path("bases", "tiny"), max_position_embeddings=4096)
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
