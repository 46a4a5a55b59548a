"""Any file to rows: the kind is guessed and said, the first flaw is named, what cannot teach is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError, NotFound, UsageError
from nomoat.data.read import Reading, ReadOptions, read

PAIR = {"prompt": "q", "completion": "a"}
CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
TOOL = {"type": "function", "function": {"name": "f"}}


def read_rows(tmp_path: Path, *rows: Any, **options: Any) -> Reading:
    path = tmp_path / "my.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read(path, ReadOptions(**options))


@pytest.mark.parametrize(
    ("raw", "kind", "row"),
    [
        ({"text": "t"}, "text", {"text": "t"}),
        ({"content": "t", "path": "x.py"}, "text", {"text": "t"}),
        (PAIR, "prompt-completion", PAIR),
        ({"prompt": "q", "answer": "a"}, "prompt-completion", PAIR),
        ({"prompt": "q", "response": "a", "output": "no"}, "prompt-completion", PAIR),
        ({"prompt": "q", "label": "a"}, "prompt-completion", PAIR),
        ({"question": "q", "answer": "a"}, "prompt-completion", PAIR),
        ({"query": "q", "response": "a"}, "prompt-completion", PAIR),
        ({"problem": "q", "solution": "a"}, "prompt-completion", PAIR),
        ({"question": "2*21?", "answer": 42}, "prompt-completion", {"prompt": "2*21?", "completion": "42"}),
        ({"instruction": "q", "output": "a"}, "alpaca", PAIR),
        ({"instruction": "q", "response": "a"}, "alpaca", PAIR),
        ({"instruction": "q", "input": "", "output": "a", "history": []}, "alpaca", PAIR),
        (
            {"instruction": "q", "input": "x", "output": "a"},
            "alpaca",
            {"prompt": "q\nx", "completion": "a"},
        ),
        (
            {"instruction": "q", "context": "x", "response": "a", "category": "c"},
            "alpaca",
            {"prompt": "q\nx", "completion": "a"},
        ),
        (
            {"instruction": "q", "output": "a", "system": "s", "history": [["q0", "a0"]]},
            "alpaca",
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "q0"},
                    {"role": "assistant", "content": "a0"},
                    *CHAT["messages"],
                ]
            },
        ),
        (
            {"instruction": "q", "instances": [{"input": "", "output": "a"}]},
            "self-instruct",
            PAIR,
        ),
        (CHAT, "messages", CHAT),
        (CHAT | {"tools": [TOOL]}, "messages", CHAT | {"tools": [TOOL]}),
        ({"conversations": CHAT["messages"]}, "messages", CHAT),
        ({"conversations": ["q", "a"], "source": "lima"}, "messages", CHAT),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "sharegpt",
            CHAT,
        ),
        (
            {
                "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
                "system": "s",
                "tools": '[{"name": "f"}]',
            },
            "sharegpt",
            {"messages": [{"role": "system", "content": "s"}, *CHAT["messages"]], "tools": [TOOL]},
        ),
        ({"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]}, "prompt-completion", CHAT),
        (
            {"question": "q", "choices": ["x", "y"], "answer": 1, "hint": "h"},
            "choices",
            {"prompt": "h\nq\nA. x\nB. y", "completion": "B"},
        ),
        (
            {"question": "q", "choices": ["x", "y"], "answer": ["x"]},
            "choices",
            {"prompt": "q\nA. x\nB. y", "completion": "A"},
        ),
        (
            {"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
            "choices",
            {"prompt": "q\nA. x\nB. y", "completion": "B"},
        ),
        (
            {
                "question": {
                    "stem": "q",
                    "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}],
                },
                "answerKey": "B",
            },
            "choices",
            {"prompt": "q\nA. x\nB. y", "completion": "B"},
        ),
    ],
)
def test_each_kind_is_guessed_and_converted(tmp_path: Path, raw: Any, kind: str, row: Any) -> None:
    reading = read_rows(tmp_path, raw)
    assert (reading.kind, reading.rows) == (kind, [row])
    assert reading.why


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (PAIR | {"chosen": "a", "rejected": "b"}, "better and worse answers: fields 'chosen' and 'rejected'"),
        ({"question": "q", "response_j": "a", "response_k": "b"}, "better and worse answers"),
        ({"instruction": "q", "output": ["a", "b"]}, "'output' is a list of ranked answers"),
        (PAIR | {"label": True}, "marked good or bad"),
        ({"instruction": "q", "output": "a", "tag": False}, "marked good or bad"),
        ({"prompt": {"text": "q", "replies": []}}, "trees of ranked replies"),
        ({"text": "t", "label": "positive"}, "texts with labels"),
        ({"turns": ["q"], "id": 3}, "no known kind of row; its fields: 'turns', 'id'"),
        ({}, "its fields: none"),
        ([1], "a row must be an object, not list"),
        ({"prompt": "q", "completion": ["a"]}, r"field 'completion': must be text"),
        ({"prompt": "q", "completion": False}, r"field 'completion': must be text, not false"),
        ({"prompt": "q\x00", "completion": "a"}, r"field 'prompt': character 2 is a NUL"),
        ({"question": "q", "choices": ["x", "y"], "answer": "z"}, "field 'answer': 'z' is none of the options"),
        ({"question": "q", "choices": ["x"], "answer": 0}, "field 'choices': must be a list of 2 to 26"),
        ({"instruction": "q", "output": "a", "history": [["x"]]}, r"field 'history\[0\]'"),
        ({"instruction": "q", "instances": [3]}, r"field 'instances\[0\]'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_at_its_line(tmp_path: Path, raw: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"my\.jsonl:1.*{message}"):
        read_rows(tmp_path, raw)


def test_the_first_bad_line_and_its_field_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path, PAIR, PAIR, {"prompt": "q", "other": "x"}, {"prompt": 3})
    assert (caught.value.line, caught.value.field) == (3, "completion")
    assert "is missing" in caught.value.message and "prompt, other" in caught.value.hint


def test_a_row_of_an_array_on_one_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    path.write_text(json.dumps([PAIR, PAIR, {"prompt": "q", "completion": []}]))
    with pytest.raises(DataError, match=r"my\.json:1 field 'completion': row 3: must be text"):
        read(path)


def test_rows_that_cannot_teach_are_dropped_counted_and_located(tmp_path: Path) -> None:
    picture = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "?"}],
    }
    reading = read_rows(
        tmp_path,
        PAIR,
        {"prompt": "q", "completion": " \n"},
        {"prompt": "q", "completion": None},
        {"prompt": "", "completion": "a"},
        {"messages": [CHAT["messages"][1]]},
        {"messages": [picture, CHAT["messages"][1]]},
        PAIR | {"image": "cat.png"},
        {"text": "\t"},
    )
    assert reading.rows == [PAIR]
    counts = {reason: (dropped.count, dropped.first[-2:]) for reason, dropped in reading.dropped.items()}
    assert counts == {
        "empty answer": (2, ":2"),
        "empty prompt": (1, ":4"),
        "turns in an impossible order": (1, ":5"),
        "needs a picture or sound": (2, ":6"),
        "empty text": (1, ":8"),
    }


def test_kinds_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    reading = read_rows(tmp_path, PAIR, CHAT, {"text": "t"})
    assert reading.rows == [PAIR, CHAT, {"text": "t"}]
    assert reading.kind == "prompt-completion, messages, text"


def test_fields_that_are_not_read_are_reported(tmp_path: Path) -> None:
    reading = read_rows(tmp_path, PAIR | {"id": 1}, PAIR | {"id": 2, "source": "x"})
    assert reading.ignored_fields == {"id": 2, "source": 1}


def test_the_user_overrules_the_guess(tmp_path: Path) -> None:
    row = {"text": "t", "label": "x", "chosen": "c", "rejected": "r"}
    assert read_rows(tmp_path, row, format="text").rows == [{"text": "t"}]
    assert read_rows(tmp_path, row, text_field="rejected").rows == [{"text": "r"}]
    pair = read_rows(tmp_path, row, prompt_field="text", completion_field="chosen")
    assert pair.rows == [{"prompt": "t", "completion": "c"}]
    assert pair.why == "the fields you named"
    with pytest.raises(DataError, match="field 'output': is missing"):
        read_rows(tmp_path, {"instruction": "q"}, format="alpaca")


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_field": "a"},
        {"text_field": "a", "prompt_field": "b", "completion_field": "c"},
        {"format": "text", "text_field": "a"},
    ],
)
def test_contradicting_options_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        read_rows(tmp_path, PAIR, **options)


def test_a_mark_splits_text_rows_into_prompt_and_answer(tmp_path: Path) -> None:
    reading = read_rows(tmp_path, {"text": "Q: 1+1\nA: 2\nA: no"}, answer_after=r"\nA: ")
    assert reading.rows == [{"prompt": "Q: 1+1\nA: ", "completion": "2\nA: no"}]
    with pytest.raises(DataError, match=r":2 field 'text': does not hold the mark"):
        read_rows(tmp_path, {"text": "Q\nA: a"}, {"text": "Q"}, answer_after=r"\nA: ")


def test_files_without_rows_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(tmp_path)
    with pytest.raises(NotFound):
        read(tmp_path / "none.jsonl")
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no reader for \.bin"):
        read(tmp_path / "x.bin")


def test_fields_are_known_in_any_case_and_with_space_around_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Question; Answer \r\nq;a\r\n", encoding="utf-8-sig")
    assert read(tmp_path / "t.csv").rows == [{"prompt": "q", "completion": "a"}]
    (tmp_path / "t.jsonl").write_text('{"PROMPT": "q", "prompt": "p", "Completion": "a"}\n')
    with pytest.raises(DataError, match="no known kind of row"):
        read(tmp_path / "t.jsonl")  # which prompt is meant?


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("t.csv", "Meine Frage;Antwort\nq;a\n", "--prompt-field 'Meine Frage' --completion-field Antwort"),
        ("t.csv", "Meine Frage;Antwort\nq;a\n", "the first line of a table names its columns"),
        ("t.jsonl", '{"promt": "q", "completion": "a"}\n', "is 'promt' meant to be 'prompt'?"),
        ("t.jsonl", '{"a": 1, "b": 2, "c": 3}\n', "--prompt-field FIELD --completion-field FIELD"),
        ("t.json", '["a text"]', '{"text": "..."}'),
        ("t.jsonl", "", '{"prompt": "...", "completion": "..."}'),
        ("t.txt", '{"prompt": "q", "completion": "a"}\n', "rename it to t.jsonl"),
        ("t.xlsx", "PK", "save the sheet as CSV"),
        ("t.docx", "PK", "take it out of the folder"),
    ],
)
def test_a_refusal_says_what_mends_it(tmp_path: Path, name: str, content: str, hint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((DataError, UsageError)) as refused:
        read(tmp_path / name)
    assert hint in refused.value.hint


def test_a_text_that_begins_with_a_brace_is_still_a_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("{curly} beginnings\nof a note\n")
    assert read(tmp_path / "t.txt").kind == "document"
