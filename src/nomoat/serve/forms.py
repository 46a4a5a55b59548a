"""What form an answer must have: ``response_format``, ``structured_outputs``, or a call that is required."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from nomoat.serve.errors import RequestError
from nomoat.serve.fields import Fields, StructuredOutputs, Text
from nomoat.serve.grammar import Grammar, Grammars


class JsonSchema(Fields):
    name: str = ""
    json_schema: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None


class ResponseFormat(Fields):
    """OpenAI's, and ``{"type": "regex", "regex": ...}`` besides."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    regex: Text | None = None


def grammar_for(
    grammars: Grammars, form: ResponseFormat | None, structured: StructuredOutputs | None
) -> Grammar | None:
    """The grammar that is asked for, if any. Raises ``RequestError`` for two at once and for what cannot be kept."""
    wanted = [one for one in (_of_format(grammars, form), _of_structured(grammars, structured)) if one is not None]
    if len(wanted) > 1:
        raise RequestError("'response_format' and 'structured_outputs' exclude each other", param="response_format")
    return wanted[0] if wanted else None


def _of_format(grammars: Grammars, form: ResponseFormat | None) -> Grammar | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return grammars.json_schema({"type": "object"})
    if form.type == "regex":
        if form.regex is None:
            raise RequestError("response_format: 'regex' is missing", param="response_format.regex")
        return grammars.regex(form.regex)
    if form.json_schema is None or form.json_schema.json_schema is None:
        raise RequestError("response_format: 'json_schema.schema' is missing", param="response_format.json_schema")
    return grammars.json_schema(form.json_schema.json_schema)


def _of_structured(grammars: Grammars, wanted: StructuredOutputs | None) -> Grammar | None:
    if wanted is None:
        return None
    given = [one for one in (wanted.json_schema, wanted.regex, wanted.choice) if one is not None]
    if len(given) != 1:
        raise RequestError("structured_outputs takes one of: json, regex, choice", param="structured_outputs")
    if wanted.regex is not None:
        return grammars.regex(wanted.regex)
    if wanted.choice is not None:
        return grammars.choice(wanted.choice)
    return grammars.json_schema(_object(wanted.json_schema))


def _object(schema: Any) -> dict[str, Any]:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise RequestError("structured_outputs: 'json' is not a JSON schema", param="structured_outputs") from None
    if not isinstance(schema, dict):
        raise RequestError("structured_outputs: 'json' is not a JSON schema", param="structured_outputs")
    return schema
