"""Who may speak to the server: checked before anything is read.

A server on 127.0.0.1 is reachable from every web page in the owner's browser. So a page of another origin is refused,
and so is a host name that is not this machine's (DNS rebinding), unless the owner allowed it.
"""

from __future__ import annotations

import dataclasses
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomoat.serve.errors import RequestError, reply_to
from nomoat.serve.options import LOCAL_HOSTS

_OPEN_PATHS = ("/health", "/", "/jobs.html", "/favicon.ico")
_OPEN_FOLDERS = ("/web/", "/join/")
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Vary": "Origin",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """Whom a server lets in. Without ``keys``, everybody who reaches it; ``cookie`` may carry the key too."""

    host: str
    keys: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    cookie: str = ""

    def key(self, headers: Headers) -> str:
        """The key that a request carries; empty where it carries none of ours."""
        given = [headers.get("authorization", "").removeprefix("Bearer ").strip()]
        if self.cookie:
            given.append(_cookie(headers.get("cookie", ""), self.cookie))
        found = [key for key in self.keys for word in given if _same(word, key)]
        return found[0] if found else ""


class Guard:
    """ASGI middleware: host, origin, key."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

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
            self._check_key(scope["path"], headers)
        except RequestError as error:
            await reply_to(scope["path"], error)(scope, receive, send)
            return
        await self._app(scope, receive, _adding_cors(send, origin) if foreign else send)

    def _check_host(self, host: str) -> None:
        if self._door.host not in LOCAL_HOSTS:
            return
        name = urlsplit(f"//{host}").hostname
        if name not in (*LOCAL_HOSTS, None):
            raise RequestError(f"this server is not {name!r}", status=403, code="wrong_host")

    def _check_origin(self, origin: str, host: str) -> bool:
        """Whether the request comes from another origin that is allowed."""
        if not origin or urlsplit(origin).netloc == host:
            return False
        if origin in self._door.allow_origins or "*" in self._door.allow_origins:
            return True
        raise RequestError(
            f"pages from {origin!r} may not call this server",
            status=403,
            code="wrong_origin",
            hint=f"nomoat serve --allow-origins {origin}",
        )

    def _check_key(self, path: str, headers: Headers) -> None:
        if not self._door.keys or path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS):
            return
        if not self._door.key(headers):
            raise RequestError("the key is missing or wrong", status=401, code="invalid_api_key")


def _same(word: str, key: str) -> bool:
    return hmac.compare_digest(word.encode("utf-8", "replace"), key.encode())


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:  # somebody else's cookie that is none
        return ""
    return found.value if found is not None else ""


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
