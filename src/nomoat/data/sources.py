"""What a path holds: one file, a folder of splits, of tables, of documents, or a saved ``datasets`` folder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from nomoat.core.amounts import counted
from nomoat.core.errors import DataError, NotFound, UsageError
from nomoat.core.files import disk_errors
from nomoat.data import documents, llamafactory
from nomoat.data.json_files import Numbered, read_lines, read_values
from nomoat.data.tables import read_arrow, read_csv, read_parquet, saved_files

TABLES: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".jsonl": read_lines,
    ".ndjson": read_lines,
    ".json": read_values,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
}
_SPLIT_NAME = re.compile(rf"({'|'.join(_SPLITS)})([-_.]\d.*)?", re.IGNORECASE)
_BESIDE_DATA = ("nomoat", "readme", "license", "licence", "notice", "dataset_infos", "dataset_info", "datacard")


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One file to read. ``split`` is empty where the file is of no split."""

    path: Path
    split: str = ""
    mapping: llamafactory.Mapping | None = None

    @property
    def is_document(self) -> bool:
        return kind_of_file(self.path) in documents.SUFFIXES

    def raw_rows(self) -> Iterator[Numbered]:
        """The file's raw rows with their numbers."""
        reader = TABLES.get(kind_of_file(self.path))
        if reader is None:
            raise UsageError(f"{self.path} holds no rows", hint="rows are read from " + ", ".join(TABLES))
        return reader(self.path)


_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The files of a path, why they were taken as they were, and the files that were left aside."""

    sources: list[Source]
    why: str
    aside: list[Path] = dataclasses.field(default_factory=list)


def kind_of_file(path: Path) -> str:
    """The suffix in lower case, ``.gz`` looked through."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def find(path: Path, dataset: str = "") -> Found:
    """Look at a path. Raises ``NotFound`` or ``UsageError`` where there is nothing to read."""
    if path.is_file():
        return _one_file(path)
    if not path.exists():
        raise NotFound(f"{path}: no such file or folder")
    if not path.is_dir():
        raise UsageError(f"{path} is neither a file nor a folder", hint="save what it gives as a .jsonl file first")
    if (path / "dataset_dict.json").is_file():
        return _saved_dict(path)
    if (path / "state.json").is_file():
        return Found([Source(file) for file in saved_files(path)], "a folder of datasets.save_to_disk")
    if (path / llamafactory.FILE).is_file() and llamafactory.entries(path):
        file, mapping = llamafactory.choose(path, dataset)
        why = f"entry {mapping.name!r} of {llamafactory.FILE} ({mapping.formatting})"
        return Found([Source(file, mapping=mapping)], why)
    return _folder(path)


def _one_file(path: Path) -> Found:
    if kind_of_file(path) in (*TABLES, *documents.SUFFIXES):
        return Found([Source(path)], "")
    if kind_of_file(path) in _SHEETS:
        raise UsageError(
            f"{path}: no reader for {kind_of_file(path)}",
            hint="save the sheet as CSV (UTF-8), with the names of its columns in the first line",
        )
    raise UsageError(
        f"{path}: no reader for {kind_of_file(path) or 'a file without a suffix'}",
        hint="readable: " + " ".join((*TABLES, *documents.SUFFIXES)) + ", and .gz of the text tables",
    )


def _saved_dict(path: Path) -> Found:
    file = path / "dataset_dict.json"
    try:
        with disk_errors(file):
            names = json.loads(file.read_text(encoding="utf-8"))["splits"]
        splits = {str(name): _SPLITS[str(name)] for name in names}
    except KeyError as error:
        raise DataError(f"no split is called {error}", file=file, hint=f"give one split: {path}/NAME") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError("not a file of datasets.save_to_disk", file=file) from error
    found = [Source(part, split) for name, split in splits.items() for part in saved_files(path / name)]
    return Found(found, f"a datasets.save_to_disk folder with the splits {', '.join(splits)}")


def _folder(path: Path) -> Found:
    with disk_errors(path):
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path))
    tables = [file for file in files if kind_of_file(file) in TABLES and not _describes(file)]
    if tables:
        return _tables(tables, [file for file in files if not _describes(file)])
    texts = [file for file in files if kind_of_file(file) in documents.SUFFIXES]
    if texts:
        why = f"a folder of {counted(len(texts), 'document')}"
        return Found([Source(file) for file in texts], why, _others(files, texts))
    raise NotFound(
        f"{path}: no file in it can be read",
        hint="readable: " + " ".join((*TABLES, *documents.SUFFIXES)),
    )


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith((".", "__")) for part in file.relative_to(root).parts)


def _describes(file: Path) -> bool:
    name = file.name.lower().split(".")[0]
    return name in _BESIDE_DATA or "license" in name


def _others(files: list[Path], taken: list[Path]) -> list[Path]:
    known = set(taken)
    return [file for file in files if file not in known]


def _tables(tables: list[Path], files: list[Path]) -> Found:
    split_of = {file: _split(file) for file in tables}
    if not any(split_of.values()):
        why = f"a folder of {counted(len(tables), 'table')}"
        return Found([Source(file) for file in tables], why, _others(files, tables))
    sources = [Source(file, split) for file, split in split_of.items() if split]
    names = sorted({source.split for source in sources}, key=["train", "valid", "test"].index)
    return Found(sources, f"files named {', '.join(names)}", _others(files, [s.path for s in sources]))


def _split(file: Path) -> str:
    """The split that a file's name says: ``train.jsonl``, ``validation-00000-of-00001.parquet``."""
    name = file.name.split(".")[0]
    match = _SPLIT_NAME.fullmatch(name)
    return _SPLITS[match[1].lower()] if match else ""
