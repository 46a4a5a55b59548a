"""A base from an address: one GGUF file over https."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import httpx

from nomoat.core.errors import UsageError
from nomoat.core.records import Note, Record
from nomoat.hub.client import open_client, refuse_plain_http, shown
from nomoat.hub.download import Request, download
from nomoat.hub.sources import Fetched, UrlSource


def fetch(source: UrlSource, downloads: Path) -> Generator[Record, None, Fetched]:
    """Fetch the file; https only (http to this machine is allowed). It is checked if a hash is known."""
    try:
        url = httpx.URL(source.url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{source.url!r} is not an address: {error}") from error
    if not url.host:
        raise UsageError(f"{source.url!r} names no host")
    refuse_plain_http(source.url)
    label = Path(url.path).name or url.host
    with open_client() as client:
        done = yield from download(client, Request(source.url, label, source.sha256), downloads)
    if not source.sha256:
        yield Note(f"no hash was given to check {label} against; its SHA-256 is {done.sha256}")
    return Fetched(f"{shown(source.url)}", done.sha256, done.size_bytes, {"model.gguf": done.path})
