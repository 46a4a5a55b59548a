"""What a folder holds: splits, tables, documents, LLaMA-Factory entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError, NotFound, UsageError
from nomoat.data.read import ReadOptions, read
from nomoat.data.sources import find


def pair(name: str) -> dict[str, str]:
    return {"prompt": name, "completion": "a"}


def fill(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(pair(name)))


def splits(folder: Path) -> dict[str, list[str]]:
    return {split: [row["prompt"] for row in rows] for split, rows in read(folder).splits.items()}


def test_an_mlx_folder_keeps_its_splits(tmp_path: Path) -> None:
    fill(tmp_path, "train.jsonl", "valid.jsonl", "test.jsonl", "all.jsonl")
    (tmp_path / "README.md").write_text("about")
    assert splits(tmp_path) == {"train": ["train.jsonl"], "valid": ["valid.jsonl"], "test": ["test.jsonl"]}
    assert [path.name for path in find(tmp_path).aside] == ["all.jsonl"]


def test_a_hub_clone_joins_its_shards(tmp_path: Path) -> None:
    fill(
        tmp_path / "data",
        "train-00000-of-00002.json",
        "train-00001-of-00002.json",
        "validation-00000-of-00001.json",
    )
    assert splits(tmp_path) == {
        "train": ["train-00000-of-00002.json", "train-00001-of-00002.json"],
        "valid": ["validation-00000-of-00001.json"],
    }


def test_a_name_that_only_begins_like_a_split_is_none(tmp_path: Path) -> None:
    fill(tmp_path, "training_notes.jsonl", "test_cases_from_work.jsonl")
    assert splits(tmp_path) == {"": ["test_cases_from_work.jsonl", "training_notes.jsonl"]}


def test_tables_come_before_the_documents_beside_them(tmp_path: Path) -> None:
    fill(tmp_path, "b.jsonl", "a.json")
    (tmp_path / "notes.txt").write_text("about")
    (tmp_path / "LICENSE").write_text("terms")
    assert splits(tmp_path) == {"": ["a.json", "b.jsonl"]}
    assert [path.name for path in find(tmp_path).aside] == ["notes.txt"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file in it can be read"):
        find(tmp_path)


def llamafactory(folder: Path, info: Any, **files: Any) -> Path:
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"file_name": f"{name}.json", **more}


CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


@pytest.mark.parametrize(
    ("more", "raw", "row"),
    [
        ({}, {"instruction": "q", "input": "", "output": "a"}, {"prompt": "q", "completion": "a"}),
        (
            {"columns": {"prompt": "frage", "response": "antwort"}},
            {"frage": "q", "antwort": "a", "text": "noise"},
            {"prompt": "q", "completion": "a"},
        ),
        ({"columns": {"prompt": "body"}}, {"body": "t"}, {"text": "t"}),
        (
            {"formatting": "sharegpt"},
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            CHAT,
        ),
        (
            {
                "formatting": "sharegpt",
                "columns": {"messages": "dialog"},
                "tags": {
                    "role_tag": "who",
                    "content_tag": "what",
                    "user_tag": "ich",
                    "assistant_tag": "du",
                },
            },
            {"dialog": [{"who": "ich", "what": "q"}, {"who": "du", "what": "a"}]},
            CHAT,
        ),
    ],
)
def test_llamafactory_columns_and_tags_are_mapped(tmp_path: Path, more: Any, raw: Any, row: Any) -> None:
    folder = llamafactory(tmp_path, {"mine": entry("mine", **more)}, mine=[raw])
    assert read(folder).rows == [row]
    assert "entry 'mine' of dataset_info.json" in read(folder).why


def test_llamafactory_rankings_are_refused_under_any_column_names(tmp_path: Path) -> None:
    info = {"r": entry("r", ranking=True, columns={"prompt": "p", "chosen": "good", "rejected": "bad"})}
    folder = llamafactory(tmp_path, info, r=[{"p": "q", "good": "a", "bad": "b"}])
    with pytest.raises(DataError, match="better and worse answers"):
        read(folder)


def test_one_of_several_llamafactory_data_sets_must_be_named(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": "a"}]
    info = {"one": entry("one"), "two": entry("two"), "hub": {"hf_hub_url": "x/y"}, "gone": entry("gone")}
    folder = llamafactory(tmp_path, info, one=rows, two=rows * 2)
    with pytest.raises(UsageError, match="holds 2 data sets: one, two"):
        read(folder)
    with pytest.raises(UsageError, match="no data set 'gone'"):
        read(folder, ReadOptions(dataset="gone"))
    assert len(read(folder, ReadOptions(dataset="two")).rows) == 2


def test_llamafactory_files_outside_the_folder_are_not_opened(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.json").write_text('[{"instruction": "q", "output": "a"}]')
    fill(inner, "a.jsonl")
    llamafactory(inner, {"x": {"file_name": "../secret.json"}})
    assert splits(inner) == {"": ["a.jsonl"]}


@pytest.mark.parametrize("info", [[], {"a": entry("a", formatting="xml")}, {"a": entry("a", tags=[1])}])
def test_a_malformed_dataset_info_is_refused(tmp_path: Path, info: Any) -> None:
    with pytest.raises(DataError, match=r"dataset_info\.json"):
        read(llamafactory(tmp_path, info, a=[]))
