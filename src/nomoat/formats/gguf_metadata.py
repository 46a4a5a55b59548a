"""The typed key-value section of a GGUF file.

Format: docs/gguf.md in the ggml repository, "gguf_metadata_kv_t".
"""

from __future__ import annotations

import struct
from typing import Any

from nomoat.formats.cursor import Cursor
from nomoat.formats.weights import Array

MAX_KEYS = 1 << 16
MAX_KEY_BYTES = 65_535  # the format's own limit
MAX_TEXT_BYTES = 1 << 26
MAX_ITEMS = 1 << 22  # strings and nested arrays of one file together; the largest vocabularies have 2^18
MAX_DEPTH = 4
SHORT_ARRAY = 1024  # up to here a numeric array is a list, beyond it a view of the file

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS: dict[int, tuple[str, struct.Struct]] = {
    number: (dtype, struct.Struct(layout))
    for number, dtype, layout in (
        (0, "<u1", "<B"),
        (1, "<i1", "<b"),
        (2, "<u2", "<H"),
        (3, "<i2", "<h"),
        (4, "<u4", "<I"),
        (5, "<i4", "<i"),
        (6, "<f4", "<f"),
        (_BOOL, "<u1", "<B"),
        (10, "<u8", "<Q"),
        (11, "<i8", "<q"),
        (12, "<f8", "<d"),
    )
}
_U32 = _SCALARS[4][1]


def read_metadata(cursor: Cursor, n: int) -> tuple[dict[str, Any], dict[str, slice]]:
    """Read ``n`` pairs: the values, and which bytes of the file hold each value with its type.

    Numbers, booleans and strings become Python's own, arrays lists; a numeric array of more than ``SHORT_ARRAY``
    numbers is a read-only numpy view. Raises ``BadHeader``.
    """
    if n > MAX_KEYS:
        raise cursor.bad(f"claims {n} metadata keys, more than the {MAX_KEYS} allowed")
    cursor.need(n * 13, f"{n} metadata keys")  # the shortest pair: empty key, type, one byte
    metadata: dict[str, Any] = {}
    places: dict[str, slice] = {}
    items_left = MAX_ITEMS
    for _ in range(n):
        key = cursor.string("a metadata key", MAX_KEY_BYTES)
        if key in metadata:
            raise cursor.bad(f"metadata key {key!r} occurs twice")
        start = cursor.at
        metadata[key], items_left = _value(cursor, key, items_left)
        places[key] = slice(start, cursor.at)
    return metadata, places


def _value(cursor: Cursor, key: str, items_left: int) -> tuple[Any, int]:
    number = int(cursor.unpack(_U32, f"the type of {key!r}"))
    if number == _ARRAY:
        return _array(cursor, key, items_left, depth=1)
    if number == _STRING:
        return cursor.string(repr(key), MAX_TEXT_BYTES), items_left
    if number not in _SCALARS:
        raise cursor.bad(f"metadata key {key!r} has the unknown type {number}")
    value = cursor.unpack(_SCALARS[number][1], repr(key))
    return (_truth(cursor, key, value) if number == _BOOL else value), items_left


def _array(cursor: Cursor, key: str, items_left: int, depth: int) -> tuple[list[Any] | Array, int]:
    what = f"array {key!r}"
    number = int(cursor.unpack(_U32, f"the element type of {what}"))
    n = cursor.u64(f"the length of {what}")
    if number in _SCALARS:
        view = cursor.numbers(n, _SCALARS[number][0], what)
        if number == _BOOL:
            if view.size and view.max() > 1:
                raise cursor.bad(f"{what} of booleans holds something else than 0 and 1")
            view = view.view(bool)
        return (view if n > SHORT_ARRAY else view.tolist()), items_left
    if number not in (_STRING, _ARRAY):
        raise cursor.bad(f"{what} has the unknown element type {number}")
    if n > items_left:
        raise cursor.bad(f"{what} claims {n} elements, more than the {MAX_ITEMS} that a file may have")
    items_left -= n
    if number == _STRING:
        return cursor.strings(n, what), items_left
    return _nested(cursor, key, n, items_left, depth)


def _nested(cursor: Cursor, key: str, n: int, items_left: int, depth: int) -> tuple[list[Any], int]:
    if depth == MAX_DEPTH:
        raise cursor.bad(f"array {key!r} is nested more than {MAX_DEPTH} deep")
    cursor.need(n * 12, f"array {key!r}")  # each element has at least a type and a length
    nested: list[Any] = []
    for _ in range(n):
        element, items_left = _array(cursor, key, items_left, depth + 1)
        nested.append(element)
    return nested, items_left


def _truth(cursor: Cursor, key: str, value: float) -> bool:
    if value not in (0, 1):
        raise cursor.bad(f"metadata key {key!r} is a boolean with the value {value}")
    return value == 1
