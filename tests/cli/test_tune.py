"""``nomoat tune`` in-process."""

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
def arguments(tmp_path: Path) -> list[str]:
    rows = [{"prompt": f"{i} and 1?", "completion": f"{i + 1}"} for i in range(50)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = tiny_folder(tmp_path / "base")
    flags = ["--rank", "4", "--threads", "1", "--max-steps", "6", "--eval-every", "3"]
    return ["tune", str(tmp_path / "sums.jsonl"), "--base", str(base), *flags]


class Interrupting(io.StringIO):
    """A terminal at which the user presses Ctrl-C when a word appears."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def write(self, text: str) -> int:
        if self.word and self.word in text:
            self.word = ""
            raise KeyboardInterrupt
        return super().write(text)


def call(*arguments: str, stderr: io.StringIO | None = None) -> tuple[int, str, str]:
    env = Environment(stdout=io.StringIO(), stderr=stderr or io.StringIO())
    code = main(list(arguments), env)
    assert isinstance(env.stdout, io.StringIO) and isinstance(env.stderr, io.StringIO)
    return code, env.stdout.getvalue(), env.stderr.getvalue()


def test_it_prints_where_the_adapter_is_and_what_it_cost(arguments: list[str]) -> None:
    code, out, talk = call(*arguments, "--name", "sums", "--probe-seconds", "0.5")
    assert code == 0, talk
    assert out.splitlines()[0] == str(Store().find("adapters", "sums"))
    assert "(held out)" in out and "predicted" in out
    assert "prediction: " in talk and "held-out loss" in talk


def test_json_gives_every_record_and_the_result_last(arguments: list[str]) -> None:
    code, out, _ = call(*arguments, "--name", "sums", "--probe-seconds", "0", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and records[-1]["record"] == "done" and records[-1]["result"]["steps"] == 6
    assert [record["step"] for record in records if record["record"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_a_dry_run_prints_the_prediction_as_text_or_json(arguments: list[str]) -> None:
    code, out, _ = call(*arguments, "--dry-run", "--probe_seconds", "0.3")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["time", "memory", "disk", "work"]
    code, out, _ = call(*arguments, "--dry-run", "--probe-seconds", "0.3", "--json")
    plan = json.loads(out.splitlines()[-1])["result"]
    assert code == 0 and plan["low_s"] < plan["seconds"] < plan["high_s"] and plan["steps"] == 6
    assert Store().names("adapters") == Store().names("runs") == []


def test_a_time_of_day_cuts_the_work_and_says_so(arguments: list[str]) -> None:
    asked = [word if word != "6" else "0" for word in arguments]
    code, out, _ = call(*asked, "--epochs", "1e9", "--finish-by", "23:59", "--dry-run", "--probe-seconds", "0.3")
    if code == 9:  # it is 23:59 now, or nearly
        return
    assert code == 0 and out.splitlines()[-1].startswith("to fit  ") and "to finish by 23:59" in out


def test_control_c_while_drawing_leaves_a_run_and_the_command_that_goes_on(arguments: list[str]) -> None:
    flags = [*arguments, "--name", "sums", "--probe-seconds", "0"]
    code, _, talk = call(*flags, stderr=Interrupting("step 3: held-out"))
    assert code == 130 and "hint: nomoat tune --resume sums-1" in talk
    code, out, talk = call("tune", "--resume", "sums-1")
    assert code == 0 and "resuming sums-1 after step 3 of 6" in talk
    assert out.splitlines()[0] == str(Store().find("adapters", "sums"))


def test_a_resume_with_another_option_is_refused(arguments: list[str]) -> None:
    call(*arguments, "--name", "sums", "--probe-seconds", "0", stderr=Interrupting("step 3: held-out"))
    code, _, talk = call("tune", "--resume", "sums-1", "--rank", "8")
    assert code == 2 and "rank was 4 and is 8" in talk


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "DATA is missing"),
        (["x.jsonl", "--base", "b"], 2, "--name is missing"),
        (["x.jsonl", "--base", "b", "--name", "n", "--rank", "many"], 2, "--rank cannot be 'many'"),
        (["x.jsonl", "--base", "b", "--name", "n", "--finish-by", "soon", "--minutes", "3"], 2, "say when to end"),
        (["x.jsonl", "--base", "nothing-here", "--name", "n"], 3, "nothing-here"),
        (["--resume", "no-run"], 3, "no run named 'no-run'"),
    ],
)
def test_mistakes_are_named(words: list[str], code: int, said: str) -> None:
    got, _, talk = call("tune", *words)
    assert got == code and said in talk


def test_a_sweep_prints_a_line_for_each_adapter_and_keeps_the_best(arguments: list[str]) -> None:
    sweep = [*arguments, "--name", "sums", "--sweep", "lr=1e-6,2e-2", "--probe-seconds", "0.3"]
    code, out, talk = call(*sweep, "--dry-run")
    assert code == 0 and out.startswith("time ") and Store().names("runs") == []
    code, out, talk = call(*sweep)
    assert code == 0, talk
    lines = out.splitlines()
    assert lines[0].split() == ["kept", "adapter", "held-out", "loss", "best", "step", "parameters"]
    assert lines[1].startswith("      lr1e-6 ") and lines[2].startswith("->    lr2e-2 ")
    assert Store().names("adapters") == ["sums"]


def test_a_sweep_that_is_stopped_names_what_goes_on_with_it(arguments: list[str]) -> None:
    sweep = [*arguments, "--name", "sums", "--sweep", "seed=1,2", "--keep", "all", "--probe-seconds", "0"]
    code, _, talk = call(*sweep, stderr=Interrupting("seed2, step 3"))
    assert code == 130 and "nomoat tune --resume sums-1" in talk
    code, _, talk = call("tune", "--resume", "sums-1", "--keep", "all")
    assert code == 2 and "leave --sweep and --keep out" in talk
    code, _, talk = call("tune", "--resume", "sums-1")
    assert code == 0 and "resuming sums-1 after step 3" in talk, talk
    assert Store().names("adapters") == ["sums-seed1", "sums-seed2"]
