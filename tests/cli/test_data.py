"""``nomoat data``: the account on stdout, the talk on stderr, rows shown with what is learned marked."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from nomoat.cli.environment import Environment
from nomoat.cli.main import main
from nomoat.core.store import Store
from tiny import tiny_folder


def nomoat(*words: str) -> tuple[int, str, str]:
    env = Environment(stdin=io.StringIO(), stdout=io.StringIO(), stderr=io.StringIO())
    code = main(["data", *words], env)
    assert isinstance(env.stdout, io.StringIO) and isinstance(env.stderr, io.StringIO)
    return code, env.stdout.getvalue(), env.stderr.getvalue()


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "my.jsonl"
    lines = [{"question": f"What is {n}+{n}?", "answer": str(2 * n), "id": n} for n in range(60)]
    lines += [lines[0], {"question": "?", "answer": "", "id": 99}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_add_says_what_it_guessed_and_prints_the_account(rows: str) -> None:
    code, out, err = nomoat("add", rows, "--name", "sums")
    assert code == 0
    assert "'question' is taken as the prompt, 'answer' as the answer" in err
    assert "sums: 60 rows kept of 62 read (prompt-completion)" in out
    assert f"dropped 1: empty answer, first {rows}:62" in out and "dropped 1: duplicate" in out
    assert "fields not used: id" in out
    assert "<= 32  ████" in out and "What is " in out


def test_add_with_json_prints_records_only(rows: str) -> None:
    code, out, err = nomoat("add", rows, "--name", "sums", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [record["record"] for record in records] == ["note", "saved", "done"]
    assert sum(records[-1]["result"]["kept"].values()) == 60


def test_add_with_a_base_counts_tokens(rows: str) -> None:
    tiny_folder(Store().path("bases", "tiny"))
    code, out, _ = nomoat("add", rows, "--name", "sums", "--base", "tiny")
    assert code == 0 and "tokens a row with tiny, " in out


def test_show_marks_what_is_learned(rows: str) -> None:
    nomoat("add", rows, "--name", "sums")
    code, out, _ = nomoat("show", "sums", "--rows", "2")
    first = json.loads((Store().find("data", "sums") / "train.jsonl").read_text().splitlines()[0])
    assert code == 0 and out.count("── train") == 2
    assert f"{first['prompt']}\n⟦{first['completion']}⟧" in out


def test_show_with_a_base_marks_the_rendered_tokens(rows: str) -> None:
    tiny_folder(Store().path("bases", "tiny"))
    nomoat("add", rows, "--name", "sums")
    first = json.loads((Store().find("data", "sums") / "test.jsonl").read_text().splitlines()[0])
    code, out, _ = nomoat("show", "sums", "--rows", "1", "--split", "test", "--base", "tiny")
    assert code == 0
    assert (
        f"<|im_start|>user\n{first['prompt']}<|im_end|>\n<|im_start|>assistant\n⟦{first['completion']}<|im_end|>" in out
    )
    _, out, _ = nomoat("show", "sums", "--rows", "1", "--split", "test", "--base", "tiny", "--json")
    record = json.loads(out)
    assert record["row"] == first and record["learned"] >= len(first["completion"]) + 1
    assert "".join(part["text"] for part in record["segments"]).startswith("<|im_start|>user\n")


def test_show_with_a_base_says_which_rows_would_be_dropped(rows: str) -> None:
    tiny_folder(Store().path("bases", "tiny"))
    nomoat("add", rows, "--name", "sums")
    code, out, err = nomoat("show", "sums", "--base", "tiny", "--max-seq-len", "20")
    assert (code, out) == (0, "") and "3 of these rows would be dropped: longer than 20 tokens" in err


def test_show_numbers_the_windows_of_a_long_text_by_their_row(tmp_path: Path) -> None:
    tiny_folder(Store().path("bases", "tiny"))
    (tmp_path / "a.txt").write_text("to be or not to be " * 10)
    nomoat("add", str(tmp_path / "a.txt"), "--name", "text", "--valid", "0", "--test", "0")
    _, out, _ = nomoat("show", "text", "--base", "tiny", "--max-seq-len", "100")
    assert out.count("── train 1  ") == 2 and "train 2" not in out


def test_rows_cannot_drive_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.jsonl"
    path.write_text(json.dumps({"prompt": "\x1b[2Jq", "completion": "\x07a"}) + "\n")
    _, out, err = nomoat("add", str(path), "--name", "evil", "--valid", "0", "--test", "0")
    _, shown, _ = nomoat("show", "evil")
    assert "\\x1b[2Jq" in out and "\\x1b[2Jq" in shown
    assert not {"\x1b", "\x07"} & set(out + err + shown)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "required"),
        (("add",), 2, "required"),
        (("add", "x.jsonl", "--nme", "x"), 2, "unrecognized arguments: --nme x; did you mean --name?"),
        (("add", "none.jsonl", "--name", "x"), 3, "no such file"),
        (("add", "none.jsonl"), 2, "needs a name"),
        (("add", os.devnull, "--name", "x"), 2, "is neither a file nor a folder"),
        (("add", "none.jsonl", "--name", "x", "--format", "xml"), 2, "--format cannot be 'xml'"),
        (("show", "none"), 3, "no data set named 'none'"),
        (("show", "none", "--rows", "0"), 2, "--rows cannot be 0"),
    ],
)
def test_wrong_use_is_explained(words: tuple[str, ...], code: int, message: str) -> None:
    got, out, err = nomoat(*words)
    assert (got, out) == (code, "") and message in err


def test_a_bad_row_exits_with_its_own_code_and_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "q", "completion": "a"}\n{"prompt": "q"}\n')
    code, _, err = nomoat("add", str(path), "--name", "x")
    assert code == 4
    assert f"error: {path}:2 field 'completion': is missing" in err and "hint: this row has: prompt" in err
