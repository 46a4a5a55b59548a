"""A request's body: read with bounds, parsed, checked. Bodies are JSON whatever their content type says.

Unknown fields are ignored, as OpenAI's clients send new ones every month; a field that we know, do not support
and that would change the answer is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from nomoat.serve.errors import RequestError
from nomoat.serve.options import MAX_BODY_BYTES

MAX_DEPTH = 100
BODY_TIMEOUT_S = 30.0
B = TypeVar("B", bound=BaseModel)

_REFUSED_EVERYWHERE = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "this server reads and writes text",
    "web_search_options": "this server has no network",
    "stop_token_ids": "use stop",
    "ignore_eos": "",
    "use_beam_search": "",
    "suffix": "this server writes on from the prompt only",
}


async def read_body(request: Request, kind: type[B]) -> B:
    """The checked body. Raises ``RequestError``: 400 for what is not JSON or not right, 408, 413."""
    return check(parse(await read_bytes(request)), kind)


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``. Raises ``RequestError`` for anything else."""
    value = parse_any(data)
    if not isinstance(value, dict):
        raise RequestError("the body is not a JSON object", code="bad_json")
    return value


def parse_any(data: bytes) -> Any:
    """The JSON in ``data``. Raises ``RequestError`` for what is none, or is nested too deeply."""
    try:
        value = json.loads(data)
    except UnicodeDecodeError:
        raise RequestError("the body is not UTF-8", code="bad_json") from None
    except RecursionError:
        raise RequestError("the body is nested too deeply", code="bad_json") from None
    except ValueError as error:  # also numbers of more digits than Python converts
        raise RequestError(f"the body is not JSON: {error}", code="bad_json") from None
    if not _shallower(value, MAX_DEPTH):
        raise RequestError(f"the body is nested deeper than {MAX_DEPTH} levels", code="bad_json")
    return value


def check(values: Mapping[str, Any], kind: type[B]) -> B:
    """``values`` as a ``kind``. Raises ``RequestError`` that names the first wrong field."""
    for name, hint in _REFUSED_EVERYWHERE.items():
        if values.get(name) and name not in kind.model_fields:
            raise RequestError(f"{name!r} is not supported", param=name, code="unsupported_parameter", hint=hint)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if _is_field(part))
        raise RequestError(f"{place or 'body'}: {first['msg']}", param=place or None) from None


def _is_field(part: int | str) -> bool:
    """Whether a part of pydantic's place is a field or a number, and not the name of a type that it tried."""
    return isinstance(part, int) or (part.isidentifier() and part.islower() and part not in ("str", "int", "float"))


async def read_bytes(request: Request) -> bytes:
    """The raw body. Raises ``RequestError``: 408 for one that dawdles, 413 for one that is too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                parts += part
                if len(parts) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise RequestError("the body took too long to arrive", status=408, code="timeout") from None
    return bytes(parts)


def _too_large() -> RequestError:
    return RequestError(f"the body is larger than {MAX_BODY_BYTES >> 20} MiB", status=413, code="too_large")


def _shallower(value: Any, depth: int) -> bool:
    """Whether containers nest at most ``depth`` deep; a loop, so that the check cannot itself overflow."""
    level = [value]
    for _ in range(depth):
        level = [child for one in level for child in _children(one)]
        if not level:
            return True
    return False


def _children(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inner if isinstance(child, (dict, list))]
