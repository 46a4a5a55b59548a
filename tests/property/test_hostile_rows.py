"""Damaged and hostile row files end in rows or in one of our errors; nothing else escapes."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.core.errors import NomoatError
from nomoat.data.read import read
from nomoat.data.rows import content_key

GOOD = [
    {"instruction": "q", "input": "", "output": "a", "history": [["x", "y"]]},
    {"messages": [{"role": "user", "content": "ü"}, {"role": "assistant", "content": "a"}], "tools": []},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name":"f"}'}]},
    {"question": "q", "choices": ["x", "y"], "answer": 1},
    {"text": "t\u2028"},
]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "from", "content", "value", "tool_calls", "name", "text"]), inner)
    ),
    max_leaves=12,
)
TEXT_FIELDS = ["text", "prompt", "completion", "instruction", "input", "output", "system", "question", "answer"]
OTHER_FIELDS = ["messages", "conversations", "tools", "history", "choices", "answerKey", "instances", "label"]
FIELDS = st.sampled_from([*TEXT_FIELDS, *OTHER_FIELDS, "chosen", "rejected", "image"])


def read_bytes(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            rows = read(path).rows
        except NomoatError as error:
            assert error.message
            return
        for row in rows:
            content_key(row)
            json.dumps(row, ensure_ascii=False, allow_nan=False).encode()


@given(
    st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.jsonl.gz", "x.txt"]),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8),
    st.integers(0, 600),
)
@settings(max_examples=80, deadline=None)
def test_mutated_bytes(name: str, changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray("\n".join(json.dumps(row, ensure_ascii=False) for row in GOOD).encode())
    for place, byte in changes:
        content[place % len(content)] = byte
    read_bytes(name, bytes(content[: len(content) - cut % len(content)]))


def columns(suffix: str) -> bytes:
    """A small Parquet file, or Arrow stream."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table, sink = pa.Table.from_pylist([{"prompt": f"q{n}", "completion": "a" * n} for n in range(9)]), io.BytesIO()
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_mutated_column_files(suffix: str) -> None:
    whole, random = columns(suffix), Random(0)
    for _ in range(80):
        content = bytearray(whole)
        for _ in range(random.choice([1, 2, 8])):
            content[random.randrange(len(content))] = random.randrange(256)
        read_bytes(f"x{suffix}", bytes(content[: random.choice([len(content), random.randrange(len(content))])]))


@given(st.lists(st.dictionaries(FIELDS, JSON, max_size=5), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_known_fields_with_any_values(rows: list[Any]) -> None:
    read_bytes("x.json", json.dumps(rows).encode())
    read_bytes("x.jsonl", "\n".join(json.dumps(row) for row in rows).encode())


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_at_all(content: bytes) -> None:
    for name in ("x.jsonl", "x.json", "x.csv", "x.tsv", "x.txt", "x.jsonl.gz"):
        read_bytes(name, content)
