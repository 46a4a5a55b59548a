"""Documents to text: .txt, .md, .html, .pdf, .docx; long ones cut into passages at paragraph ends.

A passage is a row, so that a single book can be split into training and held-out rows. Passages share nothing.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nomoat.core.errors import DataError, UsageError
from nomoat.core.files import disk_errors
from nomoat.data.html import html_text
from nomoat.data.plain_text import read_text

MAX_CHARACTERS = 256 << 20
MAX_UNPACKED_BYTES = 512 << 20
SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm", ".pdf", ".docx")
_REPAIR = "open it and save it again, or take it out of the folder"
_PARAGRAPH_END = re.compile(r"\n[ \t\r]*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s|\n")


def read_document(path: Path) -> str:
    """The text of one document; empty where there is none, a scanned PDF for example."""
    return _READERS.get(path.suffix.lower(), _plain)(path)


def passages(text: str, max_characters: int) -> Iterator[str]:
    """Cut a text into pieces of at most ``max_characters``, at paragraph ends where possible; 0 keeps it whole.

    A longer paragraph is cut at a line or sentence end, or, where there is none, in the middle.
    """
    if max_characters <= 0:
        if text.strip():
            yield text
        return
    begin = 0
    while len(text) - begin > max_characters:
        end = _cut(text, begin, begin + max_characters)
        if piece := text[begin:end].strip("\n"):
            yield piece
        begin = end
    if (piece := text[begin:].strip("\n")).strip():
        yield piece


def _cut(text: str, begin: int, limit: int) -> int:
    """The last good place to cut in the second half of ``text[begin:limit]``; ``limit`` where there is none."""
    middle = (begin + limit) // 2
    for boundary in (_PARAGRAPH_END, _SENTENCE_END):
        ends = [match.end() for match in boundary.finditer(text, middle, limit)]
        if ends:
            return ends[-1]
    return limit


def _plain(path: Path) -> str:
    return read_text(path, MAX_CHARACTERS).replace("\r\n", "\n")


def _prose(path: Path) -> str:
    """A text file that is not rows under another name."""
    text = _plain(path)
    first = text.partition("\n")[0]
    if first.startswith(("{", "[{")):
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            return text
        raise DataError("holds rows of JSON, not text", file=path, hint=f"rename it to {path.stem}.jsonl")
    return text


def _html(path: Path) -> str:
    return html_text(_plain(path))


def _pdf(path: Path) -> str:
    pypdf = _module("pypdf", path)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it cannot read, we say
    with disk_errors(path), path.open("rb") as file:
        try:
            reader = pypdf.PdfReader(file)
            if reader.is_encrypted and not reader.decrypt(""):
                raise DataError("the PDF is locked with a password", file=path, hint="save it without one")
            pages = [page.extract_text().strip() for page in reader.pages]
        except DataError:
            raise
        except Exception as error:  # pypdf raises whatever its parser stumbles on
            said = f"the PDF cannot be read: {error or type(error).__name__}"
            raise DataError(said, file=path, hint=_REPAIR) from error
    return "\n\n".join(page for page in pages if page).replace("\x00", "")


def _docx(path: Path) -> str:
    docx = _module("docx", path)
    _refuse_bomb(path)
    try:
        document = docx.Document(str(path))
        blocks = [
            _table_text(block) if isinstance(block, docx.table.Table) else str(block.text)
            for block in document.iter_inner_content()
        ]
    except Exception as error:  # python-docx raises whatever its parser stumbles on
        said = f"the document cannot be read: {error or type(error).__name__}"
        raise DataError(said, file=path, hint=_REPAIR) from error
    return "\n\n".join(block for block in blocks if block.strip())


def _table_text(table: Any) -> str:
    """One line a row, the cells between bars."""
    return "\n".join(" | ".join(cell.text.strip() for cell in row.cells) for row in table.rows)


def _refuse_bomb(path: Path) -> None:
    try:
        with disk_errors(path), zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise DataError(f"not a .docx file: {error}", file=path, hint=_REPAIR) from error
    if unpacked > MAX_UNPACKED_BYTES:
        raise DataError(f"unpacks to {unpacked >> 20} MiB", file=path)


def _module(name: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{path}: reading {path.suffix} needs {name}", hint="pip install 'nomoat[documents]'"
        ) from error


_READERS: dict[str, Callable[[Path], str]] = {
    ".txt": _prose,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}
