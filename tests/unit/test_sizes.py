"""The limits that CONTRIBUTING.md states for files and functions of the package hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).parents[2]
SOURCES = sorted((HOUSE / "src" / "nomoat").rglob("*.py"))


def limit_of(what: str) -> int:
    """The number of lines in CONTRIBUTING's sentence: ``A file ...: ... 300 at most.``"""
    text = " ".join((HOUSE / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    found = re.search(rf"A {what} [^.]*?(\d+) (?:lines )?at most\.", text)
    assert found is not None, f"CONTRIBUTING.md names no limit for a {what}"
    return int(found[1])


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.relative_to(HOUSE)} {node.name}", node.end_lineno - node.lineno + 1


def test_no_file_is_longer_than_the_limit() -> None:
    lines = {str(path.relative_to(HOUSE)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > limit_of("file")} == {}


def test_no_function_is_longer_than_the_limit() -> None:
    lines = {name: count for path in SOURCES for name, count in functions(path)}
    assert {name: count for name, count in lines.items() if count > limit_of("function")} == {}
