"""CSV, Parquet and Arrow: rows with their numbers; a damaged table is our error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nomoat.core.errors import DataError, UsageError
from nomoat.data.read import read
from nomoat.data.tables import read_arrow, read_csv, read_parquet

pa = pytest.importorskip("pyarrow")
ROWS = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(5)]
TOOLS = [{"name": "f", "description": None, "parameters": {"type": "object"}}]
CHATS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": f"q{n}", "name": None},
            {"role": "assistant", "content": "a", "name": None},
        ],
        "tools": TOOLS,
    }
    for n in range(3)
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'prompt,completion\nq,"a, ""b""\nc"\n\nq2,a2\n'),
        ("t.csv", '\ufeffprompt;completion\r\nq;"a, ""b""\nc"\r\nq2;a2\r\n'),
        ("t.tsv", 'prompt\tcompletion\nq\t"a, ""b""\nc"\nq2\ta2'),
        ("t.csv", 'prompt|completion\nq|"a, ""b""\nc"\nq2|a2'),
        ("t.csv", '\ufeffsep=;\r\nprompt;completion\r\nq;"a, ""b""\nc"\r\nq2;a2\r\n'),
    ],
)
def test_a_table_reads_the_same_whatever_separates_its_cells(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert [row for _, row in read_csv(path)] == [
        {"prompt": "q", "completion": 'a, "b"\nc'},
        {"prompt": "q2", "completion": "a2"},
    ]


def test_rows_of_a_table_carry_the_line_they_begin_on(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,"x\ny\nz"\n\n2,u\n')
    assert [line for line, _ in read_csv(path)] == [2, 6]


def test_a_cell_may_be_longer_than_the_csv_module_allows_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt,completion\nq," + "a" * 200_000)
    assert len(read(path).rows[0]["completion"]) == 200_000


def test_lines_are_counted_from_the_top_where_excel_names_its_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('sep=;\nprompt;completion\n"q\n";a\nq2;a2\n')
    assert [line for line, _ in read_csv(tmp_path / "t.csv")] == [3, 5]
    (tmp_path / "t.csv").write_text("SEP=,\nprompt,prompt\n")
    with pytest.raises(DataError, match=r"t\.csv:2: column 'prompt' stands twice"):
        list(read_csv(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a,b\n1,2\n1\n", 3, "1 cells where the header has 2"),
        ("a,b\n1,2,3\n", 2, "3 cells where the header has 2"),
        ("a,a\n1,2\n", 1, "column 'a' stands twice"),
        ("", 1, "first line must name the columns"),
        ('a,b\n1,"x\n', 2, "unexpected end of data"),
        ('a,b\n1,"x"y\n', 2, "expected after"),
    ],
)
def test_a_malformed_table_is_refused_at_its_line(tmp_path: Path, content: str, line: int, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_csv(path))
    assert caught.value.line == line


def test_parquet_and_both_arrow_forms_are_read(tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pa.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_stream(tmp_path / "s.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    with pa.ipc.new_file(tmp_path / "f.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=2)
    expected = list(enumerate(ROWS, start=1))
    assert list(read_parquet(tmp_path / "t.parquet")) == expected
    assert list(read_arrow(tmp_path / "s.arrow")) == list(read_arrow(tmp_path / "f.arrow")) == expected


def test_conversations_in_parquet_lose_the_nulls_that_columns_bring(tmp_path: Path) -> None:
    import pyarrow.parquet

    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(CHATS), path)
    reading = read(path)
    assert reading.kind == "messages"
    assert reading.rows[1]["messages"] == [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a"},
    ]


def test_saved_datasets_are_read_with_and_without_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": whole, "validation": whole.select([3, 1])}).save_to_disk(str(tmp_path / "two"))
    assert read(tmp_path / "one").splits == {"": ROWS}
    assert read(tmp_path / "two").splits == {"train": ROWS, "valid": [ROWS[3], ROWS[1]]}


@pytest.mark.parametrize("content", ["{}", "[", '{"_data_files": [{"filename": "../x.arrow"}]}', "[" * 9999])
def test_a_hostile_state_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(DataError):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1\0\0" + b"\xff" * 40, b"\xff\xff\xff\xff\x10\0\0\0" * 4])
def test_damaged_column_files_are_our_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read(path)


def test_a_missing_reader_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="needs pyarrow") as caught:
        read(path)
    assert caught.value.hint == "pip install 'nomoat[tables]'"
