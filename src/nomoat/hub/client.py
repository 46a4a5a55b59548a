"""The HTTP client of pull, and what its failures are called in our words."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Generator

import httpx

import nomoat
from nomoat.core.errors import NetworkError, NomoatError, NotFound, UsageError

CONNECT_TIMEOUT_S = 5.0
"""Short, so that a machine without the hub goes on to the next source at once."""
READ_TIMEOUT_S = 30.0


def open_client(token: str = "", token_host: str = "") -> httpx.Client:
    """A client that speaks https only (http to loopback is allowed), on every hop of a redirect.

    The token goes to ``token_host`` alone; httpx drops it when a redirect leaves that host.
    """
    headers = {"User-Agent": f"nomoat/{nomoat.__version__}", "Accept-Encoding": "identity"}

    def before_request(request: httpx.Request) -> None:
        refuse_plain_http(str(request.url))

    auth = _Bearer(token, token_host) if token else None
    return httpx.Client(
        headers=headers,
        auth=auth,
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=True,
        event_hooks={"request": [before_request]},
    )


class _Bearer(httpx.Auth):
    def __init__(self, token: str, host: str) -> None:
        self._token, self._host = token, host

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if request.url.netloc.decode("ascii") == self._host:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def refuse_plain_http(url: str) -> None:
    """Raise ``UsageError`` for http to anything but this machine: anyone on the way could swap the file."""
    parsed = httpx.URL(url)
    if parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(parsed.host)):
        return
    raise UsageError(f"{shown(url)}: not https", hint="use an https address, or download the file and pull its path")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """The address without user, password and query: signed links carry secrets there."""
    parsed = httpx.URL(url)
    port = f":{parsed.port}" if parsed.port else ""
    return f"{parsed.scheme}://{parsed.host}{port}{parsed.path}"


def out_of_reach(url: str, error: Exception) -> NetworkError:
    """The error for a source that does not answer."""
    reason = str(error) or type(error).__name__
    return NetworkError(
        f"{httpx.URL(url).host} cannot be reached: {reason}",
        hint="check the connection and pull again: a partial download goes on where it stopped",
    )


def status_error(url: str, response: httpx.Response) -> NomoatError:
    """The error for an answer that is not a file. 404 is ``NotFound``, the rest ``NetworkError``."""
    status, place = response.status_code, shown(url)
    if status == 404:
        return NotFound(f"{place}: not found (404)", hint="check the name, the file and the revision")
    if status in (401, 403):
        return NetworkError(
            f"{place}: access refused ({status})",
            hint="private, gated or misspelt: accept the terms on the model's page and set HF_TOKEN",
        )
    if status == 429:
        return NetworkError(f"{place}: too many requests (429)", hint="wait a minute, or set HF_TOKEN")
    return NetworkError(f"{place}: the server answers {status}", hint="pull again later")


def hub_endpoint() -> str:
    """``HF_ENDPOINT`` or the public hub, without a trailing slash."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` (or its older name) forbids asking the hub."""
    words = {os.environ.get(name, "").strip().upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    return bool(words & {"1", "ON", "YES", "TRUE"})
