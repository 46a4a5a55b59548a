"""Errors as HTTP: the one place that turns our tree into a status and an OpenAI (or Ollama) body.

The body is OpenAI's: ``{"error": {"message", "type", "param", "code"}}``; Ollama's is ``{"error": message}``.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from nomoat.core import errors

_STATUS: tuple[tuple[type[errors.NomoatError], int, str], ...] = (
    (errors.NotFound, 404, "not_found"),
    (errors.UsageError, 400, "invalid_value"),
    (errors.TemplateError, 400, "template_error"),
    (errors.AdapterMismatch, 400, "adapter_mismatch"),
    (errors.FormatError, 400, "bad_file"),
    (errors.DataError, 400, "invalid_value"),
    (errors.Interrupted, 503, "shutting_down"),
    (errors.ResourceError, 503, "overloaded"),
    (errors.NumericError, 500, "not_a_number"),
    (errors.NomoatError, 500, "internal_error"),
)


class RequestError(errors.UsageError):
    """A request that cannot be served as it is: 400 unless said otherwise.

    ``param`` names the field, ``code`` is what programs look at.
    """

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str = "invalid_value", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.param, self.code = status, param, code


def status_of(error: errors.NomoatError) -> int:
    """The HTTP status that says what this error says."""
    if isinstance(error, RequestError):
        return error.status
    return _row(error)[1]


def openai_body(error: errors.NomoatError) -> dict[str, Any]:
    """The error as OpenAI's clients read it."""
    param, code = (error.param, error.code) if isinstance(error, RequestError) else (None, _row(error)[2])
    kind = "invalid_request_error" if status_of(error) < 500 else "server_error"
    return {
        "error": {
            "message": sentence(error),
            "type": {401: "authentication_error", 403: "permission_error"}.get(status_of(error), kind),
            "param": param,
            "code": code,
        }
    }


def ollama_body(error: errors.NomoatError) -> dict[str, str]:
    """The error as Ollama's clients read it."""
    return {"error": sentence(error)}


def reply_to(path: str, error: errors.NomoatError) -> JSONResponse:
    """What a client of ``path`` is answered instead: Ollama's clients in Ollama's form, all others in OpenAI's."""
    status = status_of(error)
    body = ollama_body(error) if path.startswith("/api/") else openai_body(error)
    return JSONResponse(body, status, headers={"Retry-After": "1"} if status == 503 else None)


def sentence(error: errors.NomoatError) -> str:
    """The message with its hint."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _row(error: errors.NomoatError) -> tuple[type[errors.NomoatError], int, str]:
    return next(row for row in _STATUS if isinstance(error, row[0]))
