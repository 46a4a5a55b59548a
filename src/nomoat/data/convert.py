"""Raw rows of each known kind to our three shapes. Pure: a dict in, rows out, ``DataError`` at the first flaw."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nomoat.data.messages import conversation, tools
from nomoat.data.rows import Message, Place, Row, check_text

Raw = dict[str, Any]
INPUTS = ("input", "context")
TOOLS = ("tools", "functions")
SYSTEM = ("system", "system_prompt")
ASSISTANT_TEXT = ("output", "response", "completion", "answer")


class Fit(NamedTuple):
    """Why a kind was recognised, and the fields that stand for prompt and completion where they vary."""

    why: str
    prompt: str = ""
    completion: str = ""


def field_text(raw: Raw, field: str, place: Place) -> str:
    """The field as text: null is empty, a number is written out, anything else is refused."""
    if field not in raw:
        raise place.error("is missing", field=field, hint=f"this row has: {', '.join(map(str, raw))}")
    value = raw[field]
    if value is None:
        return ""
    if isinstance(value, str):
        return check_text(value, place, field)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return json.dumps(value)
    raise place.error(f"must be text, not {json.dumps(value, default=str)[:60]}", field=field)


def _optional(raw: Raw, fields: Sequence[str], place: Place) -> str:
    present = [field for field in fields if raw.get(field) is not None]
    return field_text(raw, present[0], place) if present else ""


def from_text(raw: Raw, place: Place, fit: Fit) -> list[Row]:
    """``{"text"}`` or its aliases."""
    return [{"text": field_text(raw, fit.prompt or "text", place)}]


def from_pair(raw: Raw, place: Place, fit: Fit) -> list[Row]:
    """Two fields, a prompt and a completion; both may be lists of messages (TRL's conversational form)."""
    asked, answer = raw.get(fit.prompt), raw.get(fit.completion)
    if isinstance(asked, list) and isinstance(answer, list):
        messages = conversation(asked, place, fit.prompt) + conversation(answer, place, fit.completion)
        return [_with_tools(messages, raw, place)]
    prompt, completion = field_text(raw, fit.prompt, place), field_text(raw, fit.completion, place)
    return [_turns([], prompt, completion, _optional(raw, SYSTEM, place))]


def from_alpaca(raw: Raw, place: Place, fit: Fit) -> list[Row]:
    """``instruction``, ``input`` joined to it by a newline, ``output``, and perhaps ``system`` and ``history``."""
    instruction = field_text(raw, "instruction", place)
    extra = _optional(raw, INPUTS, place)
    prompt = "\n".join(part for part in (instruction, extra) if part)
    past = _history(raw.get("history"), place)
    answer = field_text(raw, fit.completion or "output", place)
    return [_turns(past, prompt, answer, _optional(raw, SYSTEM, place))]


def from_seed_task(raw: Raw, place: Place, fit: Fit) -> list[Row]:
    """Self-Instruct: one instruction with several ``instances`` of input and output."""
    if not isinstance(raw.get("instances"), list):
        raise place.error("must be a list of instances", field="instances")
    rows = []
    for index, instance in enumerate(raw["instances"]):
        if not isinstance(instance, dict):
            raise place.error("must be an object", field=f"instances[{index}]")
        rows += from_alpaca({"instruction": raw.get("instruction"), **instance}, place, fit)
    return rows


def from_messages(raw: Raw, place: Place, fit: Fit) -> list[Row]:
    """A conversation in the field that ``fit.prompt`` names, OpenAI or ShareGPT, with tools."""
    messages = conversation(raw.get(fit.prompt), place, fit.prompt)
    system = _optional(raw, SYSTEM, place)
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return [_with_tools(messages, raw, place)]


def _with_tools(messages: list[Message], raw: Raw, place: Place) -> Row:
    field = next((field for field in TOOLS if raw.get(field)), None)
    defined = tools(raw[field], place, field) if field else []
    return {"messages": messages, "tools": defined} if defined else {"messages": messages}


def _turns(past: list[Message], prompt: str, completion: str, system: str) -> Row:
    """A plain pair where it suffices, messages where there is a system prompt or a past."""
    if not past and not system:
        return {"prompt": prompt, "completion": completion}
    first: list[Message] = [{"role": "system", "content": system}] if system else []
    last = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return {"messages": first + past + last}


def _history(value: Any, place: Place) -> list[Message]:
    if not value:
        return []
    messages: list[Message] = []
    for index, pair in enumerate(value if isinstance(value, list) else [None]):
        field = f"history[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise place.error("must be a pair of what was asked and answered", field=field)
        for role, text in zip(("user", "assistant"), pair):
            if not isinstance(text, str):
                raise place.error("must be a pair of texts", field=field)
            messages.append({"role": role, "content": check_text(text, place, field)})
    return messages
