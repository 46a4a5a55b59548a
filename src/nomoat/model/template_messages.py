"""Conversations in the shape that chat templates expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import nodes

from nomoat.core.errors import TemplateError

_REASONING = ("reasoning_content", "thinking", "reasoning")  # as transformers passes each under the others' names


def plain(value: Any) -> Any:
    """A copy in Python's own JSON types; a template gets nothing with methods of its own."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TemplateError(f"a message holds a {type(value).__name__}, which is not JSON")


def prepared(messages: Sequence[Mapping[str, Any]], *, takes_parts: bool) -> list[dict[str, Any]]:
    """Messages as plain data. Content in text parts becomes one string unless the template ``takes_parts``.

    Raises ``TemplateError`` for what is no conversation, or has parts other than text for such a template.
    """
    found: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        copy = plain(message)
        if not isinstance(copy, dict) or not isinstance(copy.get("role"), str):
            raise TemplateError(f"message {i} is not an object with a role")
        content = copy.get("content")
        if isinstance(content, list) and not takes_parts:
            copy["content"] = _joined(content, i)
        reasoning = next((copy[key] for key in _REASONING if copy.get(key) is not None), None)
        if reasoning is not None:
            copy = {"thinking": reasoning} | copy | {"reasoning_content": reasoning}
        found.append(copy)
    return found


def _joined(parts: list[Any], i: int) -> str:
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise TemplateError(f"message {i} has a part that is not text, and the chat template takes only text")
    return "".join(part["text"] for part in parts)


def takes_parts(tree: nodes.Template) -> bool:
    """Whether a template loops over a message's content."""
    return any(_is_content(loop.iter) for loop in tree.find_all(nodes.For))


def _is_content(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return isinstance(node, nodes.Name) and node.name == "content"
