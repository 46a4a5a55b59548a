"""The pages: static files of the package, with a policy that lets them load nothing from anywhere else."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

from nomoat.serve.errors import RequestError

_HTML = "text/html; charset=utf-8"
_TITLES = {"chat": "nomoat", "arena": "nomoat arena", "jobs": "nomoat arena: jobs"}
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOLDER = resources.files("nomoat").joinpath("web")
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    **_ALWAYS,
}
# A page that is made here: it runs no script, and brings its style along.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    **_ALWAYS,
}


def routes(home: str, *others: str) -> APIRouter:
    """``/``, which is the page ``home``, ``/NAME.html`` for the ``others``, and the files that pages name."""
    router = APIRouter()

    @router.get("/")
    async def page() -> Response:
        return _page(home)

    @router.get("/{name}.html")
    async def other(name: str) -> Response:
        if name not in others:
            raise RequestError(f"no page {name[:100]!r}", status=404, code="not_found")
        return _page(name)

    @router.get("/web/{name}")
    async def part(name: str) -> Response:
        return _file(name)

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return _file("icon.svg")

    return router


def _page(name: str) -> Response:
    head = _read("head.html").decode().format(title=_TITLES[name], name=name)
    return Response(head.encode() + _read(f"{name}.html"), media_type=_HTML, headers=_HEADERS)


def _file(name: str) -> Response:
    there = name in {part.name for part in _FOLDER.iterdir()}  # only what stands in the folder is ever read
    kind = _TYPES.get(name[name.rfind(".") :]) if there else None
    if kind is None:
        raise RequestError(f"no page {name[:100]!r}", status=404, code="not_found")
    return Response(_read(name), media_type=kind, headers=_HEADERS)


def _read(name: str) -> bytes:
    return _FOLDER.joinpath(name).read_bytes()
