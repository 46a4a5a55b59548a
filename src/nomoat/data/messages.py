"""Conversations of every dialect to the OpenAI shape, one message at a time.

Read: OpenAI ``role``/``content`` (text or parts, ``tool_calls``), ShareGPT ``from``/``value``, LLaMA-Factory's parts
with ``reasoning`` and ``tool_call``, plain strings in turn (LIMA), and struct-of-lists columns as old Parquet
exports of ``datasets`` write them.
"""

from __future__ import annotations

import json
from typing import Any

from nomoat.data.json_files import parse
from nomoat.data.rows import Message, Place, check_text

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "call",
    "tool_call": "call",
}
_OTHER_MEDIA = frozenset({"image", "image_url", "input_image", "audio", "input_audio", "video", "file"})
_WEIGHTS = ("weight", "loss_weight", "train")


def conversation(value: Any, place: Place, field: str) -> list[Message]:
    """Normalise a list of turns. Raises ``DataError`` naming the turn and its key."""
    turns = _as_list(value)
    if not isinstance(turns, list) or not turns:
        raise place.error("must be a list of messages, and not empty", field=field)
    if all(isinstance(turn, str) for turn in turns):
        roles = ("user", "assistant")
        turns = [{"role": roles[index % 2], "content": text} for index, text in enumerate(turns)]
    return [_message(turn, place, f"{field}[{index}]") for index, turn in enumerate(turns)]


def _as_list(value: Any) -> Any:
    """``{"from": [..], "value": [..]}`` is how a list of structs looks when stored as a struct of lists."""
    if not isinstance(value, dict) or not value:
        return value
    if not all(isinstance(column, list) for column in value.values()):
        return value
    if len({len(column) for column in value.values()}) != 1:
        return value
    return [dict(zip(value, cells)) for cells in zip(*value.values())]


def _message(turn: Any, place: Place, field: str) -> Message:
    if not isinstance(turn, dict):
        raise place.error(f"must be a message object, not {_named(turn)}", field=field)
    role_key = "role" if "role" in turn else "from"
    if role_key not in turn:
        raise place.error("has neither 'role' nor 'from'", field=field)
    role = ROLES.get(turn[role_key]) if isinstance(turn[role_key], str) else None
    if role is None:
        known = ", ".join(ROLES)
        raise place.error(f"{turn[role_key]!r} is no role", field=f"{field}.{role_key}", hint=f"known roles: {known}")
    content_key = "content" if "content" in turn else "value"
    if content_key not in turn and not turn.get("tool_calls"):
        raise place.error("has neither 'content' nor 'value'", field=field)
    _refuse_unlearned(turn, role, place, field)
    return _build(turn, role, turn.get(content_key), place, field, f"{field}.{content_key}")


def _build(turn: dict[str, Any], role: str, content: Any, place: Place, field: str, at: str) -> Message:
    if role == "call":
        calls = _calls(_text(content, place, at), place, at)
        return {"role": "assistant", "content": "", "tool_calls": calls}
    text, reasoning, calls = _parts(content, place, at)
    if turn.get("tool_calls"):
        calls += [
            _call(call, place, f"{field}.tool_calls[{index}]")
            for index, call in enumerate(_list_of(turn["tool_calls"], place, f"{field}.tool_calls"))
        ]
    message: Message = {"role": role, "content": text}
    if calls and role != "assistant":
        raise place.error(f"only an assistant calls tools, not {role!r}", field=f"{field}.tool_calls")
    if calls:
        message["tool_calls"] = calls
    reasoning = reasoning or _text(turn.get("reasoning_content"), place, f"{field}.reasoning_content")
    if reasoning:
        message["reasoning_content"] = reasoning
    for key in ("name", "tool_call_id"):
        if turn.get(key):
            message[key] = _text(turn[key], place, f"{field}.{key}")
    return message


def _parts(content: Any, place: Place, field: str) -> tuple[str, str, list[dict[str, Any]]]:
    """Text, reasoning and calls of a message's content, which is text or a list of typed parts."""
    if not isinstance(content, list):
        return _text(content, place, field), "", []
    text, reasoning, calls = [], [], []
    for index, part in enumerate(content):
        at = f"{field}[{index}]"
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        kind = part.get("type") if isinstance(part, dict) else None
        value = part.get("text", part.get("value")) if isinstance(part, dict) else None
        if kind in ("text", "input_text", "output_text"):
            text.append(_text(value, place, at))
        elif kind in ("reasoning", "thinking"):
            reasoning.append(_text(value, place, at))
        elif kind == "tool_call":
            calls += _calls(_text(value, place, at), place, at)
        else:
            raise place.error(f"a part of type {kind!r} cannot be read", field=at)
    return "".join(text), "".join(reasoning), calls


def _calls(text: str, place: Place, field: str) -> list[dict[str, Any]]:
    value = parse(text, file=place.file, line=place.line, field=field)
    calls = value if isinstance(value, list) else [value]
    return [_call(call, place, field) for call in calls]


def _call(call: Any, place: Place, field: str) -> dict[str, Any]:
    """One call as ``{"type": "function", "function": {"name", "arguments": object}}``, with its id if it has one."""
    body = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise place.error("a tool call needs a 'name'", field=field)
    arguments = body.get("arguments", {})
    if isinstance(arguments, str):
        where = f"{field}.arguments"
        arguments = parse(arguments or "{}", file=place.file, line=place.line, field=where)
    if not isinstance(arguments, dict):
        raise place.error(f"arguments must be an object, not {_named(arguments)}", field=f"{field}.arguments")
    _check_inside(call, place, field)
    known = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**known, "type": "function", "function": {"name": body["name"], "arguments": arguments}}


def tools(value: Any, place: Place, field: str) -> list[dict[str, Any]]:
    """Tool definitions, as a list or as its JSON text; bare ones are wrapped as OpenAI's ``function`` tools."""
    if isinstance(value, str):
        value = parse(value, file=place.file, line=place.line, field=field) if value.strip() else []
    wrapped = []
    for index, tool in enumerate(_list_of(value or [], place, field)):
        at = f"{field}[{index}]"
        if isinstance(tool, str):
            tool = parse(tool, file=place.file, line=place.line, field=at)
        body = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(body, dict) or not isinstance(body.get("name"), str):
            raise place.error("a tool needs a 'name'", field=at)
        _check_inside(body, place, at)
        wrapped.append({"type": "function", "function": body})
    return wrapped


def has_other_media(turns: Any) -> bool:
    """Whether a message of the conversation carries an image, sound or file."""
    messages = turns if isinstance(turns, list) else []
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, dict) and part.get("type") in _OTHER_MEDIA for part in parts)


def _refuse_unlearned(turn: dict[str, Any], role: str, place: Place, field: str) -> None:
    """A turn marked as not to be learned would be learned here, so the file is refused."""
    for key in _WEIGHTS:
        if role in ("assistant", "call") and turn.get(key) in (0, False):
            raise place.error(
                "an assistant's turn that is not to be learned",
                field=f"{field}.{key}",
                hint="leave the turn out; every assistant turn of a row is learned",
            )


def _check_inside(value: Any, place: Place, field: str) -> None:
    check_text(json.dumps(value, ensure_ascii=False, default=str), place, field)


def _text(value: Any, place: Place, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise place.error(f"must be text, not {_named(value)}", field=field)
    return check_text(value, place, field)


def _list_of(value: Any, place: Place, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise place.error(f"must be a list, not {_named(value)}", field=field)
    return value


def _named(value: Any) -> str:
    """What a value is, in JSON's words."""
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
