"""Errors carry their place and mend; records become JSON."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

from nomoat.core import errors
from nomoat.core.records import Done, Note, Progress, as_json, returned


def test_a_data_error_names_file_line_and_field() -> None:
    error = errors.DataError("not a string", file="rows.jsonl", line=3, field="prompt")
    assert str(error) == "rows.jsonl:3 field 'prompt': not a string"


def test_an_adapter_mismatch_names_both_bases() -> None:
    error = errors.AdapterMismatch("scribe", expected="smollm2", got="qwen", why="other widths")
    assert "'smollm2'" in error.message and "'qwen'" in error.message and error.hint


def test_every_error_of_the_tree_has_an_exit_code_of_the_documented_list() -> None:
    tree = [errors.NomoatError]
    for kind in tree:
        tree.extend(kind.__subclasses__())
    assert {kind.exit_code for kind in tree} <= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 130}


def test_records_become_json_with_paths_as_text_and_without_nothings() -> None:
    done = Done("pull", Path("/x"), {"name": "tiny"})
    assert json.loads(json.dumps(as_json(done))) == {
        "record": "done",
        "what": "pull",
        "path": str(Path("/x")),
        "result": {"name": "tiny"},
    }
    assert "total" not in as_json(Progress("checking", 1, None, "B"))
    assert as_json(Note("hello")) == {"record": "note", "text": "hello", "warning": False}


def test_a_stage_run_to_its_end_gives_what_it_returns_and_is_heard_on_the_way() -> None:
    def stage() -> Generator[Note, None, int]:
        yield Note("one")
        yield Note("two")
        return 3

    heard: list[Note] = []
    assert returned(stage(), heard.append) == returned(stage()) == 3
    assert [note.text for note in heard] == ["one", "two"]
