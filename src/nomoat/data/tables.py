"""Tables to raw rows: CSV and TSV (RFC 4180), Parquet, and Arrow streams as ``datasets.save_to_disk`` writes them.

Parquet and Arrow need ``pyarrow``; neither needs ``datasets``. Rows are streamed; the number beside each is its
line (CSV) or its row (Parquet, Arrow), from 1.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nomoat.core.errors import DataError, UsageError
from nomoat.core.files import disk_errors
from nomoat.data.json_files import Numbered
from nomoat.data.plain_text import MAX_LINE_BYTES, text_lines

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR = re.compile("sep=([,;\t|])[\r\n]*", re.IGNORECASE)  # a first line for Excel alone
_BATCH_ROWS = 1024


def read_csv(path: Path) -> Iterator[Numbered]:
    """Rows of a table with a header line; the delimiter is the one that the header holds most of."""
    csv.field_size_limit(MAX_LINE_BYTES)  # the default of 128 KiB is less than a long answer
    source = _Tape(path)
    header_line = next(source, "")
    said = _SEPARATOR.fullmatch(header_line)
    before = 1 if said else 0  # lines above the header
    if said:
        header_line = next(source, "")
    tabs = ".tsv" in path.suffixes
    delimiter = said[1] if said else "\t" if tabs else max(_DELIMITERS, key=header_line.count)
    source.put_back(header_line)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    line = before + 1
    try:
        header = _header(next(reader, []), path, line)
        line = before + reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, dict(_cells(header, cells, path, line))
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"not a well-formed table separated by {_DELIMITERS[delimiter]}: {error}", file=path, line=line
        ) from error


def _header(names: list[str], path: Path, line: int) -> list[str]:
    if not any(name.strip() for name in names):
        raise DataError("the first line must name the columns", file=path, line=line)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"column {twice!r} stands twice", file=path, line=line)
    return names


def _cells(header: list[str], cells: list[str], path: Path, line: int) -> Iterator[tuple[str, str]]:
    if len(cells) != len(header):
        raise DataError(
            f"{len(cells)} cells where the header has {len(header)}",
            file=path,
            line=line,
            field=header[min(len(cells), len(header) - 1)],
            hint="quote cells that hold the separator or a line break",
        )
    return zip(header, cells)


class _Tape:
    """Lines of text, with one that can be put back."""

    def __init__(self, path: Path) -> None:
        self._lines = text_lines(path)
        self._held: list[str] = []

    def __iter__(self) -> _Tape:
        return self

    def __next__(self) -> str:
        return self._held.pop() if self._held else next(self._lines)[1]

    def put_back(self, line: str) -> None:
        if line:
            self._held.append(line)


def read_parquet(path: Path) -> Iterator[Numbered]:
    """Rows of one Parquet file."""
    return _column_rows(path, "Parquet", _parquet_batches)


def read_arrow(path: Path) -> Iterator[Numbered]:
    """Rows of one Arrow IPC file, in the stream or the file form."""
    return _column_rows(path, "Arrow", _arrow_batches)


def _column_rows(path: Path, what: str, batches: Callable[[Any], Iterator[Any]]) -> Iterator[Numbered]:
    arrow_errors = _pyarrow(path).ArrowException
    number = 0
    with disk_errors(path), path.open("rb") as file:
        try:
            for batch in batches(file):
                batch.validate(full=True)  # a damaged offset would otherwise be followed out of the buffer
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (arrow_errors, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's, not the file's: Arrow gives its own no number
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DataError(f"not a whole {what} file: {said}", file=path, line=number + 1) from error


def _parquet_batches(file: Any) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    yield from parquet.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS)


def _arrow_batches(file: Any) -> Iterator[Any]:
    from pyarrow import ipc

    is_file_form = file.read(6) == b"ARROW1"
    file.seek(0)
    if not is_file_form:
        yield from ipc.open_stream(file)
        return
    reader = ipc.open_file(file)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(f"{path}: reading {path.suffix} needs pyarrow", hint="pip install 'nomoat[tables]'") from error
    return pyarrow.lib


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of one ``save_to_disk`` folder, in the order that its ``state.json`` gives."""
    state = folder / "state.json"
    try:
        with disk_errors(state):
            listed = json.loads(state.read_text(encoding="utf-8"))["_data_files"]
        names = [str(entry["filename"]) for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError("not a state file of datasets.save_to_disk", file=state) from error
    for name in names:
        if Path(name).name != name:
            raise DataError(f"names a file outside its folder: {name!r}", file=state)
    return [folder / name for name in names]
