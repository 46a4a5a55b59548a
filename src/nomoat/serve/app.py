"""The application: every endpoint, the guard before them, and the one place where errors become replies."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from nomoat.core.errors import NomoatError
from nomoat.serve import catalogue, chat, completions, embeddings, lora, ollama, page, responses
from nomoat.serve.counted import Counted
from nomoat.serve.desk import Desk
from nomoat.serve.errors import RequestError, reply_to
from nomoat.serve.guard import Door, Guard


def create_app(desk: Desk) -> FastAPI:
    """The ASGI application of one server."""
    options = desk.options
    app = guarded(Door(options.host, (options.api_key,) if options.api_key else (), options.allow_origins))
    for room in (chat, completions, embeddings, responses, catalogue, lora, ollama):
        app.include_router(room.routes(desk))
    app.include_router(page.routes("chat"))
    app.add_middleware(Counted, metrics=desk.metrics)
    return app


def guarded(door: Door) -> FastAPI:
    """An application without endpoints, behind its guard, that says errors in our words."""
    # Without FastAPI's own documentation pages: they load scripts from a content network.
    app = FastAPI(title="nomoat", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, door=door)
    app.add_exception_handler(NomoatError, _nomoat_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _other_error)
    return app


async def _nomoat_error(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, NomoatError) else NomoatError(str(error))
    return reply_to(request.url.path, known)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "there is no such endpoint", 405: "this endpoint takes another method"}
    message = f"{request.method} {request.url.path[:200]}: {words.get(status, 'not possible')}"
    return await _nomoat_error(request, RequestError(message, status=status, code="not_found"))


async def _other_error(request: Request, error: Exception) -> Response:
    """A fault of ours. The kind is told, the details stay in the server's log."""
    return await _nomoat_error(request, NomoatError(f"the server failed: {type(error).__name__}"))
