"""JSON from untrusted files: a bounded amount of it, and one kind of error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nomoat.core.errors import BadHeader, NotFound
from nomoat.core.files import disk_errors

MAX_BYTES = 1 << 24
MAX_VALUES = 1 << 22  # a value takes some 60 bytes in memory and may take two in the file


def read_object(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the JSON object in ``path``. Raises ``NotFound`` and ``BadHeader``."""
    if not path.is_file():
        raise NotFound(f"no such file: {path}")
    with disk_errors(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size) if size <= max_bytes else b""
    if size > max_bytes:
        raise BadHeader(f"larger than the {max_bytes} bytes allowed", file=path)
    return parse_object(content, path)


def parse_object(content: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object in ``content``; errors name ``path``. A key twice in one object is refused."""
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise BadHeader(f"JSON of more than {MAX_VALUES} values", file=path)
    try:
        value = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadHeader(f"not valid JSON: {error}", file=path, hint="download the file again") from error
    if not isinstance(value, dict):
        raise BadHeader("not a JSON object", file=path, hint="download the file again")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found
