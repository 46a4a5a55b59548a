"""Files as UTF-8 text, streamed, gzip or not; what is not UTF-8 is named by its byte offset."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nomoat.core.errors import DataError
from nomoat.core.files import disk_errors

MAX_LINE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 18
_BOMS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking gzip; disk errors become ``StorageError``, a damaged gzip ``DataError``."""
    with disk_errors(path), path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not zipped:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"the gzip stream is damaged: {error}", file=path) from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, a leading byte-order mark removed; lines end at ``\\n`` only."""
    offset = 0
    with open_bytes(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"longer than {MAX_LINE_BYTES >> 20} MiB", file=path, line=number)
            if number == 1:
                refuse_other_encodings(line, path)
                start = len(codecs.BOM_UTF8) if line.startswith(codecs.BOM_UTF8) else 0
                line, offset = line[start:], start
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(path, offset + error.start, line[error.start], number) from error
            offset += len(line)


def text_chunks(path: Path) -> Iterator[str]:
    """The file's text in pieces of about 256 KiB, a leading byte-order mark removed."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    with open_bytes(path) as file:
        while True:
            chunk = file.read(_CHUNK_BYTES)
            if read == 0:
                refuse_other_encodings(chunk, path)
                read, chunk = (3, chunk[3:]) if chunk.startswith(codecs.BOM_UTF8) else (0, chunk)
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise not_utf8(path, read - held + error.start, error.object[error.start]) from error
            if text:
                yield text
            if not chunk:
                return
            read += len(chunk)


def read_text(path: Path, max_characters: int) -> str:
    """A whole text file; one of more than ``max_characters`` is refused."""
    parts, total = [], 0
    for part in text_chunks(path):
        total += len(part)
        if total > max_characters:
            raise DataError(f"longer than {max_characters:,} characters", file=path, hint="cut the file into several")
        parts.append(part)
    return "".join(parts)


def refuse_other_encodings(start: bytes, path: Path) -> None:
    """Raise ``DataError`` where a byte-order mark says UTF-16 or UTF-32."""
    for mark, name in _BOMS.items():
        if start.startswith(mark):
            raise DataError(
                f"byte 0: this is {name}, not UTF-8",
                file=path,
                hint=f"save it as UTF-8, or: iconv -f {name} -t UTF-8 {path.name}",
            )


def not_utf8(path: Path, offset: int, byte: int, line: int | None = None) -> DataError:
    """The error that names the first byte which is not UTF-8."""
    return DataError(
        f"byte {offset} (0x{byte:02x}) is not UTF-8",
        file=path,
        line=line,
        hint=f"save it as UTF-8; if it is Windows text: iconv -f CP1252 -t UTF-8 {path.name}",
    )
