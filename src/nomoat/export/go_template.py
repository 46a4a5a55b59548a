"""The part of Go's ``text/template`` that the templates we write for Ollama use, so that they can be checked here.

Language: the documentation of Go's package text/template. Known: text with trimmed white space, ``if``, ``else``,
``end``, ``range $i, $x :=``, variables, fields, literals, and the functions of ``_FUNCTIONS``. All else is refused.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nomoat.core.errors import TemplateError

MAX_SOURCE = 1 << 16
MAX_DEPTH = 32

Names: TypeAlias = dict[str, Any]

_ACTION = re.compile(r'\{\{(- )?((?:"(?:[^"\\]|\\.)*"|[^"])*?)( -)?\}\}', re.DOTALL)
_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|:=|[(),]|\$?\.?[\w.]+|\$|\.)')
_BLANK = " \t\r\n"


@dataclass(slots=True)
class _Node:
    """``kind``: text, show, set, if, range. ``words`` is the action's expression; ``other`` what ``else`` holds."""

    kind: str
    text: str = ""
    words: list[str] = field(default_factory=list)
    body: list[_Node] = field(default_factory=list)
    other: list[_Node] = field(default_factory=list)


class GoTemplate:
    """A parsed template. Raises ``TemplateError`` for what is outside of the part described above."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"a Go template of {len(source):,} characters, more than {MAX_SOURCE:,}")
        tokens = list(_tokens(source))
        self._nodes, end = _parse(tokens, 0, depth=0)
        if end != len(tokens):
            raise TemplateError(f"a Go template with a stray {tokens[end][1]!r}")

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for ``values``, the fields of the outermost dot."""
        parts: list[str] = []
        _run(self._nodes, {"$": dict(values)}, dict(values), parts)
        return "".join(parts)


def quoted(text: str) -> str:
    """``text`` as a string literal of Go, on one line."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _tokens(source: str) -> Iterator[tuple[bool, str]]:
    """(is an action, its inside) and (False, text), with the white space taken away that the actions ask for."""
    at, trim = 0, False
    for action in _ACTION.finditer(source):
        text = source[at : action.start()]
        text = text.lstrip(_BLANK) if trim else text
        text = text.rstrip(_BLANK) if action[1] else text
        if text:
            yield False, text
        yield True, action[2].strip(_BLANK)
        at, trim = action.end(), action[3] is not None
    rest = source[at:].lstrip(_BLANK) if trim else source[at:]
    if "{{" in rest:
        raise TemplateError("a Go template with an action that does not end")
    if rest:
        yield False, rest


def _parse(tokens: Sequence[tuple[bool, str]], at: int, depth: int) -> tuple[list[_Node], int]:
    """Nodes up to an ``else`` or ``end``, and where that stands."""
    if depth > MAX_DEPTH:
        raise TemplateError("a Go template that is nested too deep")
    nodes: list[_Node] = []
    while at < len(tokens):
        is_action, inside = tokens[at]
        if not is_action:
            nodes.append(_Node("text", inside))
            at += 1
            continue
        words = _words(inside)
        if words[:1] in (["end"], ["else"]):
            break
        if words[:1] in (["if"], ["range"]):
            node, at = _parse_block(tokens, at, words, depth)
        else:
            assigns = len(words) > 2 and words[1] == ":="
            node, at = _Node("set" if assigns else "show", words=words), at + 1
        nodes.append(node)
    return nodes, at


def _parse_block(tokens: Sequence[tuple[bool, str]], at: int, words: list[str], depth: int) -> tuple[_Node, int]:
    node = _Node(words[0], words=words[1:])
    node.body, at = _parse(tokens, at + 1, depth + 1)
    if at < len(tokens) and (after := _words(tokens[at][1]))[0] == "else":
        if after[1:2] == ["if"]:  # one `end` closes the whole chain
            inner, at = _parse_block(tokens, at, after[1:], depth + 1)
            node.other = [inner]
            return node, at
        node.other, at = _parse(tokens, at + 1, depth + 1)
    if at >= len(tokens) or tokens[at][1] != "end":
        raise TemplateError(f"a Go template whose {node.kind} has no end")
    return node, at + 1


def _words(inside: str) -> list[str]:
    words, at = [], 0
    while at < len(inside):
        found = _WORD.match(inside, at)
        if found is None:
            raise TemplateError(f"a Go template with an action that is not known here: {inside!r:.60}")
        words.append(found[1])
        at = found.end()
    if not words:
        raise TemplateError("a Go template with an empty action")
    return words


def _run(nodes: Sequence[_Node], names: Names, dot: Any, out: list[str]) -> None:
    names = dict(names)  # a variable is known up to the end of its block
    for node in nodes:
        if node.kind == "text":
            out.append(node.text)
        elif node.kind == "set":
            names[node.words[0]] = _value(node.words[2:], names, dot)
        elif node.kind == "if":
            _run(node.body if _value(node.words, names, dot) else node.other, names, dot, out)
        elif node.kind == "range":
            _run_range(node, names, dot, out)
        else:
            out.append(_shown(_value(node.words, names, dot)))


def _run_range(node: _Node, names: Names, dot: Any, out: list[str]) -> None:
    index, comma, item, assign, *rest = [*node.words, "", "", "", ""]
    if (comma, assign) != (",", ":="):
        raise TemplateError("a Go template whose range is not `range $i, $x := list`")
    for i, each in enumerate(_value([word for word in rest if word], names, dot)):
        _run(node.body, {**names, index: i, item: each}, each, out)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _value(words: Sequence[str], names: Names, dot: Any) -> Any:
    value, at = _call(words, 0, names, dot)
    if at != len(words):
        raise TemplateError(f"a Go template with a stray {words[at]!r}")
    return value


def _call(words: Sequence[str], at: int, names: Names, dot: Any) -> tuple[Any, int]:
    """A function and its arguments, or one operand."""
    if at >= len(words):
        raise TemplateError("a Go template with an action that breaks off")
    function = _FUNCTIONS.get(words[at])
    if function is None:
        return _operand(words, at, names, dot)
    arguments, at = [], at + 1
    while at < len(words) and words[at] != ")":
        argument, at = _operand(words, at, names, dot)
        arguments.append(argument)
    try:
        return function(*arguments), at
    except (TypeError, IndexError) as error:
        raise TemplateError(f"a Go template that calls a function wrongly: {error}") from error


def _operand(words: Sequence[str], at: int, names: Names, dot: Any) -> tuple[Any, int]:
    word = words[at]
    if word == "(":
        value, at = _call(words, at + 1, names, dot)
        if words[at : at + 1] != [")"]:
            raise TemplateError("a Go template with an open parenthesis")
        return value, at + 1
    if word.startswith('"'):
        return json.loads(word), at + 1
    if word.isdigit():
        return int(word), at + 1
    if word in ("true", "false"):
        return word == "true", at + 1
    name, *fields = word.split(".")
    if name and name not in names:
        raise TemplateError(f"a Go template with the unknown name {word!r}")
    return _field(names[name] if name else dot, [each for each in fields if each], word), at + 1


def _field(value: Any, fields: Sequence[str], word: str) -> Any:
    for each in fields:
        if not isinstance(value, Mapping) or each not in value:
            raise TemplateError(f"a Go template asks for {word!r}, which is not there")
        value = value[each]
    return value


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


def _slice(values: Any, *cuts: int) -> Any:
    return values[slice(*cuts)] if len(cuts) == 2 else values[cuts[0] :]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "not": operator.not_,
    "and": _and,
    "or": _or,
    "len": len,
    "slice": _slice,
}
