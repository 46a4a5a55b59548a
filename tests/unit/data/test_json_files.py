"""Strict JSON and JSON Lines: what holds rows, where the first flaw is, and that nothing else ever escapes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nomoat.core.errors import DataError, NomoatError
from nomoat.data import json_files
from nomoat.data.json_files import read_lines, read_values


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path) -> list[object]:
    reader = read_lines if ".jsonl" in path.name else read_values
    return [value for _, value in reader(path)]


ROWS = [{"a": 1}, {"a": "zwei\u2028"}, {"a": [None, True, 1.5e-3]}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", LINES),
        ("x.jsonl", "\n\n" + LINES + "\n \n"),
        ("x.jsonl", LINES.replace("\n", "\r\n")),
        ("x.jsonl", "\ufeff" + LINES),
        ("x.jsonl.gz", gzip.compress(LINES.encode())),
        ("x.json", LINES),
        ("x.json", "\ufeff" + json.dumps(ROWS)),
        ("x.json", json.dumps(ROWS, indent=2)),
        ("x.json", "\n".join(json.dumps(row, indent=1) for row in ROWS)),
        ("x.json", json.dumps({"version": "v2", "data": ROWS})),
        ("x.json", json.dumps({str(i): row for i, row in enumerate(ROWS)})),
        ("x.json.gz", gzip.compress(json.dumps(ROWS).encode())),
    ],
)
def test_rows_are_found_whatever_holds_them(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert values(write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_lone_object_is_one_row(tmp_path: Path, name: str) -> None:
    row = {"messages": [{"role": "user", "content": "hi"}]}
    assert values(write(tmp_path / name, json.dumps(row))) == [row]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert values(write(tmp_path / name, "")) == []


def test_a_hundred_levels_are_deep_enough_for_anyone(tmp_path: Path) -> None:
    content = '{"a":' * 100 + "[]" + "}" * 100
    with pytest.raises(DataError, match="levels"):
        values(write(tmp_path / "x.jsonl", content))
    content = '{"a":' * 99 + "[" + "3," * 500 + "3]" + "}" * 99
    assert values(write(tmp_path / "x.jsonl", content)) == values(write(tmp_path / "x.json", content))


def test_rows_larger_than_the_window_come_out_whole_with_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomoat.data.plain_text._CHUNK_BYTES", 7)
    rows = [{"text": 'ä\\"\n' * n, "n": [n, -1.5, True, None]} for n in range(40)]
    path = write(tmp_path / "x.json", json.dumps(rows, indent=1, ensure_ascii=False))
    read = list(read_values(path))
    assert [value for _, value in read] == rows
    lines = path.read_text().splitlines()
    assert all(line is not None and lines[line - 1] == " {" for line, _ in read)


BAD = [
    ('{"a": 1}\n{"a": 1, "a": 2}', 2, "key 'a' stands twice"),
    ('{"a": 1}\n{"a": NaN}', 2, "NaN is not JSON"),
    ('{"a": 1}\n{"a": -Infinity}', 2, "-Infinity is not JSON"),
    ('{"a": 1}\n{"a": 1e999}', 2, "too large"),
    ('{"a": 1}\n{"a": ' + "9" * 5000 + "}", 2, "digits"),
    ('{"a": 1}\n{"a": "\x01"}', 2, "control character"),
    ('{"a": 1}\n{"a": 1', 2, "delimiter"),
    ('{"a": 1}\n{"a": "open', 2, "unterminated"),
    ('{"a": 1}\n{"a": tru}', 2, "expecting value"),
    ('{"a": 1}\n' + '{"a":' * 100_000, 2, "deep"),
    ('{"a": 1}\n' + "[" * 100_000, 2, "deep"),
    ('{"a": 1}\n' + '{"a":' * 101 + "1" + "}" * 101, 2, "more than 100 levels deep"),
    ('{"a": 1}\n}', 2, "expecting value"),
]


@pytest.mark.parametrize(("content", "line", "message"), BAD)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_flaw_is_named_with_its_line(tmp_path: Path, name: str, content: str, line: int, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        values(path)
    assert (caught.value.file, caught.value.line) == (path, line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1} {"a": 2}]', "expected ',' or ']'"),
        ('[{"a": 1}', "cut off"),
        ('[{"a": 1}, ', "not JSON"),
        ('[{"a": 1},]', "not JSON"),
        ('[{"a": 1}] x', "after the end of the array"),
    ],
)
def test_a_damaged_array_is_refused_with_line_and_column(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"x\.json:1: .*{message}.* at column \d+"):
        values(write(tmp_path / "x.json", content))


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_bytes_that_are_not_utf8_are_named_by_their_offset(tmp_path: Path, name: str) -> None:
    good = '\ufeff[{"a": "é"}]\n' if name == "x.json" else '\ufeff{"a": "é"}\n'
    offset = len(good.encode()) + 3
    path = write(tmp_path / name, good.encode() + b'{"a\xff": 1}')
    with pytest.raises(DataError, match=rf"byte {offset} \(0xff\) is not UTF-8") as caught:
        values(path)
    assert "iconv" in caught.value.hint


def test_a_character_cut_between_two_pieces_keeps_its_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomoat.data.plain_text._CHUNK_BYTES", 4)
    path = write(tmp_path / "x.json", b'["a\xc3\xc3\xa9"]')
    with pytest.raises(DataError, match=r"byte 3 \(0xc3\)"):
        values(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
def test_utf16_and_utf32_are_called_by_their_names(tmp_path: Path, encoding: str) -> None:
    text = "\ufeff{}" if encoding == "utf-16-be" else "{}"
    with pytest.raises(DataError, match=r"UTF-(16|32), not UTF-8"):
        values(write(tmp_path / "x.jsonl", text.encode(encoding)))


def test_a_line_or_row_beyond_the_limit_is_refused_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomoat.data.plain_text.MAX_LINE_BYTES", 1 << 20)
    monkeypatch.setattr(json_files, "MAX_ROW_CHARACTERS", 1 << 20)
    content = '{"a": "' + "x" * (3 << 20)
    for name, message in (("x.jsonl", "longer than 1 MiB"), ("x.json", "more than 1 Mi characters")):
        with pytest.raises(DataError, match=message):
            values(write(tmp_path / name, content))


@pytest.mark.parametrize("keep", [5, 40, -6])
def test_a_damaged_gzip_stream_is_our_error(tmp_path: Path, keep: int) -> None:
    whole = gzip.compress((LINES + "\n").encode() * 50)
    with pytest.raises(DataError, match="gzip stream is damaged"):
        values(write(tmp_path / "x.jsonl.gz", whole[:keep]))


def test_a_missing_file_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(NomoatError, match="no such file"):
        values(tmp_path / "none.jsonl")
