"""``data add``: what goes in, what is dropped and why, how it is split, and that it is all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError, FormatError, NotFound, StorageError, UsageError
from nomoat.core.files import sha256_file
from nomoat.core.store import Store, read_lineage
from nomoat.data.add import AddOptions, add
from nomoat.data.load import load_rows
from outcome import ended, notes


def pairs(start: int, end: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(start, end)]


def write(path: Path, rows: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(*paths: str, name: str = "mine", **options: Any) -> dict[str, Any]:
    records, done = ended(add(AddOptions(paths=paths, name=name, **options), Store()))
    return done.result | {"notes": notes(records)}


def stored(name: str = "mine") -> dict[str, list[dict[str, str]]]:
    folder = Store().find("data", name)
    return {split: load_rows(folder, split) for split in ("train", "valid", "test")}


def drops(result: dict[str, Any]) -> dict[str, int]:
    return {dropped["reason"]: dropped["count"] for dropped in result["dropped"]}


def test_rows_are_split_and_written_with_their_descent(tmp_path: Path) -> None:
    file = write(tmp_path / "my.jsonl", pairs(0, 200))
    before = (Path(file).read_bytes(), Path(file).stat().st_mtime_ns)
    result = run(file, licence="MIT")
    assert sum(result["kept"].values()) == 200
    splits = stored()
    assert sorted(row["prompt"] for rows in splits.values() for row in rows) == sorted(
        row["prompt"] for row in pairs(0, 200)
    )
    lineage = read_lineage(Store().find("data", "mine"))
    assert lineage is not None and (lineage.kind, lineage.licence) == ("data", "MIT")
    assert [(parent.kind, parent.name, parent.sha256) for parent in lineage.parents] == [
        ("file", file, sha256_file(Path(file)))
    ]
    assert lineage.metrics["kept"] == result["kept"]
    assert (Path(file).read_bytes(), Path(file).stat().st_mtime_ns) == before


def test_equal_rows_are_kept_once(tmp_path: Path) -> None:
    rows = [*pairs(0, 50), {"prompt": "question 7 ", "completion": "answer 7\n"}, *pairs(0, 10)]
    result = run(write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", pairs(40, 60)))
    assert drops(result) == {"duplicate": 21}
    assert (result["read"], sum(result["kept"].values())) == (81, 60)


def test_other_answers_to_a_prompt_are_kept_counted_and_stay_together(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 40}", "completion": f"a{n}"} for n in range(400)]
    result = run(write(tmp_path / "a.jsonl", rows))
    assert result["repeated_prompts"] == 360
    splits = stored()
    held_out = [{row["prompt"] for row in splits[split]} for split in ("train", "valid", "test")]
    assert sum(len(prompts) for prompts in held_out) == 40


def test_splits_that_files_name_are_kept_but_share_no_prompt(tmp_path: Path) -> None:
    write(tmp_path / "m" / "test.jsonl", pairs(90, 110))
    write(tmp_path / "m" / "valid.jsonl", pairs(80, 92))
    other = [{"prompt": "QUESTION 81", "completion": "another"}]
    write(tmp_path / "m" / "train.jsonl", pairs(0, 85) + other)
    result = run(str(tmp_path / "m"))
    assert result["kept"] == {"train": 80, "valid": 10, "test": 20}
    assert drops(result) == {"duplicate": 7, "its prompt stands in the valid part": 1}


def test_a_valid_part_without_a_test_part_becomes_the_test_part(tmp_path: Path) -> None:
    write(tmp_path / "m" / "valid.jsonl", pairs(200, 230))
    write(tmp_path / "m" / "train.jsonl", pairs(0, 200))
    result = run(str(tmp_path / "m"))
    assert result["kept"]["test"] == 30 and {row["prompt"] for row in stored()["test"]} == {
        row["prompt"] for row in pairs(200, 230)
    }
    assert 0 < result["kept"]["valid"] < 20


def test_a_lone_held_out_file_is_split_like_any_other(tmp_path: Path) -> None:
    result = run(str(Path(write(tmp_path / "m" / "test.jsonl", pairs(0, 100))).parent))
    assert result["kept"]["train"] > 60


def test_questions_of_held_out_files_are_not_learned(tmp_path: Path) -> None:
    chat = {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "Held out  2?"},
            {"role": "assistant", "content": "yes"},
        ]
    }
    leaks = [{"prompt": "held out 1?", "completion": "x"}, chat]
    bench = write(tmp_path / "bench.jsonl", [{"question": "Held out 1?"}, {"turns": ["Held out 2?", "b"]}])
    result = run(write(tmp_path / "a.jsonl", pairs(0, 50) + leaks), held_out=(bench,), test=0.0)
    assert drops(result) == {f"its question stands in {bench}": 2}
    with pytest.raises(DataError, match="no question found"):
        run(write(tmp_path / "b.jsonl", pairs(0, 50)), name="b", held_out=(write(tmp_path / "c.jsonl", [{"id": 1}]),))


def test_adding_rows_under_the_same_name_moves_no_old_row(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    run(write(file, pairs(0, 60)))
    old = {row["prompt"]: split for split, rows in stored().items() for row in rows}
    run(write(file, pairs(0, 5200)), replace=True)
    new = {row["prompt"]: split for split, rows in stored().items() for row in rows}
    assert len(new) == 5200 and {prompt: new[prompt] for prompt in old} == old


def test_another_data_set_can_be_split_alike(tmp_path: Path) -> None:
    run(write(tmp_path / "a.jsonl", pairs(0, 60)))
    old = {row["prompt"]: split for split, rows in stored().items() for row in rows}
    run(write(tmp_path / "b.jsonl", pairs(0, 1500)), name="more", split_like="mine")
    new = {row["prompt"]: split for split, rows in stored("more").items() for row in rows}
    assert {prompt: new[prompt] for prompt in old} == old
    with pytest.raises(NotFound):
        run(write(tmp_path / "c.jsonl", pairs(0, 60)), name="c", split_like="none")


def test_other_shares_split_anew_and_warn(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", pairs(0, 300))
    run(file)
    result = run(file, replace=True, test=0.4)
    assert result["kept"]["test"] > 90
    assert any("rows may move" in note for note in result["notes"])


def test_a_damaged_record_of_the_split_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", pairs(0, 60))
    run(file)
    path = Store().find("data", "mine") / "nomoat.json"
    values = json.loads(path.read_text())
    for damage in ({}, {"split": {"valid": "x", "test": 0, "seed": 0}}):
        path.write_text(json.dumps(values | {"details": damage}))
        with pytest.raises(FormatError, match=r"split"):
            run(file, replace=True)


def test_it_is_said_when_nothing_is_held_out(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.jsonl", pairs(0, 4)), valid=0.0, test=0.0)
    assert result["kept"] == {"train": 4, "valid": 0, "test": 0}
    assert sum("rows: " in note and "will not be possible" in note for note in result["notes"]) == 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": ""}, UsageError),
        ({"name": "../x"}, UsageError),
        ({"valid": 0.7}, UsageError),
        ({"test": -0.1}, UsageError),
        ({"format": "alpaca"}, DataError),
    ],
)
def test_a_refusal_leaves_nothing_behind(tmp_path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    file = write(tmp_path / "a.jsonl", pairs(0, 60))
    with pytest.raises(error):
        run(file, **({"name": "mine"} | options))
    assert Store().names("data") == []


def test_an_existing_name_needs_replace_and_survives_a_failure(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", pairs(0, 60))
    run(file)
    before = stored()
    with pytest.raises(UsageError, match="exists already"):
        run(file)
    write(tmp_path / "a.jsonl", [*pairs(0, 60), {"prompt": 1}])
    with pytest.raises(DataError):
        run(file, replace=True)
    assert stored() == before


def test_nothing_left_to_learn_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row is left to learn: 1 dropped: empty answer, first .*a\.jsonl:1"):
        run(write(tmp_path / "a.jsonl", [{"prompt": "q", "completion": ""}]))


def test_a_home_that_cannot_be_written_is_a_storage_error(tmp_path: Path, own_home: Path) -> None:
    own_home.parent.mkdir(exist_ok=True)
    own_home.write_text("a file")
    with pytest.raises(StorageError):
        run(write(tmp_path / "a.jsonl", pairs(0, 60)))


def test_only_written_splits_in_our_shapes_load(tmp_path: Path) -> None:
    run(write(tmp_path / "a.jsonl", pairs(0, 60)))
    folder = Store().find("data", "mine")
    with pytest.raises(NotFound, match="no 'extra' split"):
        load_rows(folder, "extra")
    (folder / "test.jsonl").write_text('{"prompt": "q"}\n')
    with pytest.raises(DataError, match=r"test\.jsonl:1: not a row"):
        load_rows(folder, "test")


def test_a_data_set_can_be_read_back_by_its_folder(tmp_path: Path) -> None:
    run(write(tmp_path / "a.jsonl", pairs(0, 300)))
    run(str(Store().find("data", "mine")), name="again")
    assert stored("again") == stored()
