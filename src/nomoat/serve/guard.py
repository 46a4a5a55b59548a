"""Who may speak to the server: checked before anything is read.

A server on 127.0.0.1 is reachable from every web page in the owner's browser. So a page of another origin is refused,
and so is a host name that is not this machine's (DNS rebinding), unless the owner allowed it.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomoat.serve.errors import RequestError, openai_body
from nomoat.serve.options import LOCAL_HOSTS, ServeOptions

_OPEN_PATHS = ("/health", "/", "/favicon.ico")
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Vary": "Origin",
}


class Guard:
    """ASGI middleware: host, origin, key."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        try:
            self._check_host(headers.get("host", ""))
            foreign = self._check_origin(origin, headers.get("host", ""))
            if foreign and scope["method"] == "OPTIONS":
                await _with_cors(Response(status_code=204), origin)(scope, receive, send)
                return
            self._check_key(scope["path"], headers.get("authorization", ""))
        except RequestError as error:
            await JSONResponse(openai_body(error), error.status)(scope, receive, send)
            return
        await self._app(scope, receive, _adding_cors(send, origin) if foreign else send)

    def _check_host(self, host: str) -> None:
        if self._options.host not in LOCAL_HOSTS:
            return
        name = urlsplit(f"//{host}").hostname
        if name not in (*LOCAL_HOSTS, None):
            raise RequestError(f"this server is not {name!r}", status=403, code="wrong_host")

    def _check_origin(self, origin: str, host: str) -> bool:
        """Whether the request comes from another origin that is allowed."""
        if not origin or urlsplit(origin).netloc == host:
            return False
        if origin in self._options.allow_origins or "*" in self._options.allow_origins:
            return True
        raise RequestError(
            f"pages from {origin!r} may not call this server",
            status=403,
            code="wrong_origin",
            hint=f"nomoat serve --allow-origins {origin}",
        )

    def _check_key(self, path: str, authorization: str) -> None:
        key = self._options.api_key
        if not key or path in _OPEN_PATHS or path.startswith("/web/"):
            return
        given = authorization.removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
            raise RequestError("the key is missing or wrong", status=401, code="invalid_api_key")


def _with_cors(response: Response, origin: str) -> Response:
    response.headers.update({"Access-Control-Allow-Origin": origin, **_CORS})
    return response


def _adding_cors(send: Send, origin: str) -> Send:
    names = {"Access-Control-Allow-Origin": origin, **_CORS}
    pairs = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in names.items()]

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *pairs]}
        await send(message)

    return wrapped
