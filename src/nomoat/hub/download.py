"""One file over HTTP into the downloads folder: resumable, checked, with progress.

While it grows, a file is ``<key>.part`` beside ``<key>.json`` (address, etag, size). A later pull of the same
address asks for the rest with Range (RFC 9110, section 14) and If-Range, so a file that changed meanwhile
starts anew. Two pulls at once write the same bytes at the same offsets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import time
from collections.abc import Generator
from pathlib import Path

import httpx

from nomoat.core.errors import HashMismatch, NetworkError, StorageError
from nomoat.core.files import CHUNK_BYTES, disk_errors, write_json
from nomoat.core.records import Note, Progress, Record
from nomoat.hub.client import out_of_reach, shown, status_error

ATTEMPTS = 5
_PROGRESS_EVERY_S = 0.1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A file to fetch. Empty hashes and a size of None are learned from the server where it states them.

    ``git_sha1`` is git's blob hash, which the hub states for files outside LFS.
    """

    url: str
    label: str
    sha256: str = ""
    git_sha1: str = ""
    size_bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Downloaded:
    path: Path
    sha256: str
    size_bytes: int


class _Part:
    """The partial file and what is known of the whole."""

    def __init__(self, folder: Path, request: Request) -> None:
        key = hashlib.sha256(request.url.encode()).hexdigest()[:24]
        self.path, self._sidecar = folder / f"{key}.part", folder / f"{key}.json"
        self.request = request
        self.etag, self.sha256, self.size = "", request.sha256, request.size_bytes
        self._recall()

    def _recall(self) -> None:
        """Take over what an earlier pull noted; a part that is not of this request is put aside."""
        if not self.path.exists():
            return
        try:
            noted = json.loads(self._sidecar.read_text(encoding="utf-8"))
            etag, sha256, size = str(noted["etag"]), str(noted["sha256"]), noted["size_bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            self.discard()
            return
        if (self.sha256 and sha256 and sha256 != self.sha256) or (self.size and size and size != self.size):
            self.discard()
            return
        self.etag, self.sha256, self.size = etag, self.sha256 or sha256, self.size or size

    @property
    def done(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def complete(self) -> bool:
        return self.size is not None and self.done == self.size

    def discard(self) -> None:
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            self._sidecar.unlink(missing_ok=True)

    def learn(self, response: httpx.Response, whole_size: int | None) -> None:
        """Note etag, size and the hash that the server states, before the first byte is written.

        Hugging Face hubs name the LFS object's SHA-256 in ``X-Linked-Etag`` on the redirect to the file.
        """
        self.etag = response.headers.get("etag", "")
        self.size = whole_size if whole_size is not None else self.size
        for hop in [*response.history, response]:
            stated = hop.headers.get("x-linked-etag", "").strip('"').lower()
            if not self.sha256 and _SHA256.fullmatch(stated):
                self.sha256 = stated
        noted = {"url": shown(self.request.url), "etag": self.etag}
        write_json(self._sidecar, {**noted, "sha256": self.sha256, "size_bytes": self.size})


def download(client: httpx.Client, request: Request, folder: Path) -> Generator[Record, None, Downloaded]:
    """Fetch a file into ``folder``, going on from an earlier part; returns where it lies.

    Raises ``NetworkError``, ``NotFound`` (404), ``StorageError``; ``HashMismatch``, having deleted the part.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    part = _Part(folder, request)
    if part.done and not part.complete:
        yield Note(f"{request.label}: going on from byte {part.done:,}")
    failures = 0
    while not part.complete:
        before = part.done
        try:
            yield from _stream(client, part)
            break
        except httpx.TransportError as error:
            failures = failures + 1 if part.done <= before else 1
            if failures >= ATTEMPTS or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                raise out_of_reach(request.url, error) from error
            yield Note(f"{request.label}: the connection broke ({error}); going on", warning=True)
            time.sleep(min(0.2 * 2**failures, 5.0))
    return (yield from _check(part))


def _stream(client: httpx.Client, part: _Part) -> Generator[Record, None, None]:
    """One request, appended to the part. ``httpx.TransportError`` passes through to the retry."""
    headers = {}
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
        if part.etag and not part.etag.startswith("W/"):
            headers["If-Range"] = part.etag
    with client.stream("GET", part.request.url, headers=headers) as response:
        if response.status_code == 416 and part.done:
            if _whole_size(response) != part.done:  # the part is no beginning of what the server has now
                part.discard()
                yield from _stream(client, part)
            else:
                part.learn(response, part.done)
            return
        if response.status_code not in (200, 206):
            raise status_error(part.request.url, response)
        offset = _offset(response)
        if offset not in (0, part.done):
            raise NetworkError(f"{shown(part.request.url)}: the server sent another part than was asked for")
        size, promised = _whole_size(response), part.request.size_bytes
        if size is not None and promised is not None and size != promised:
            raise HashMismatch(f"{part.request.label}: {size:,} bytes at the source, {promised:,} were promised")
        part.learn(response, size)
        _need_room(part, offset)
        yield from _write(response, part, offset)


def _offset(response: httpx.Response) -> int:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    return int(match[1]) if response.status_code == 206 and match and match[1] else 0


def _whole_size(response: httpx.Response) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match:
        return int(match[2]) if match[2] != "*" else None
    length = response.headers.get("content-length", "")
    return int(length) if response.status_code == 200 and length.isdigit() else None


def _need_room(part: _Part, offset: int) -> None:
    if part.size is None:
        return
    folder = part.path.parent
    with disk_errors(folder):
        free = shutil.disk_usage(folder).free
    if part.size - offset > free:
        raise StorageError(
            f"{part.request.label} needs {part.size - offset:,} bytes, {folder} has {free:,} free",
            hint="free some space, or point NOMOAT_HOME at another disk",
        )


def _write(response: httpx.Response, part: _Part, offset: int) -> Generator[Record, None, None]:
    said, done = 0.0, offset
    with disk_errors(part.path):
        part.path.touch()
        file = part.path.open("r+b")
    with disk_errors(part.path), file:
        file.truncate(offset)
        file.seek(offset)
        for chunk in response.iter_bytes():  # as they arrive: a cut connection keeps every byte that came
            done += len(chunk)
            if part.size is not None and done > part.size:
                raise NetworkError(f"{shown(part.request.url)}: longer than the server said")
            file.write(chunk)
            if (now := time.monotonic()) - said >= _PROGRESS_EVERY_S:
                said = now
                yield Progress(f"downloading {part.request.label}", done, part.size, "B")
    yield Progress(f"downloading {part.request.label}", done, part.size, "B")


def _check(part: _Part) -> Generator[Record, None, Downloaded]:
    size = part.done
    if part.size is not None and size != part.size:
        raise NetworkError(
            f"{part.request.label}: {size:,} of {part.size:,} bytes came",
            hint="pull again: it goes on from there",
        )
    sha256, git_sha1 = yield from hash_file(part.path, part.request.label)
    for kind, expected, got in (
        ("SHA-256", part.sha256, sha256),
        ("git hash", part.request.git_sha1, git_sha1),
    ):
        if expected and expected != got:
            part.discard()
            raise HashMismatch(
                f"{part.request.label}: its {kind} is {got}, but {expected} was promised (deleted)",
                hint="pull again; if it happens twice, the file at the source is not the one that was named",
            )
    return Downloaded(part.path, sha256, size)


def hash_file(path: Path, label: str) -> Generator[Record, None, tuple[str, str]]:
    """The file's SHA-256 and git blob SHA-1 in hex, with progress."""
    said, done = time.monotonic(), 0
    with disk_errors(path), path.open("rb") as file:
        size = path.stat().st_size
        sha256, git_sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        git_sha1.update(f"blob {size}\0".encode())
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            git_sha1.update(chunk)
            done += len(chunk)
            if (now := time.monotonic()) - said >= _PROGRESS_EVERY_S:
                said = now
                yield Progress(f"checking {label}", done, size, "B")
    return sha256.hexdigest(), git_sha1.hexdigest()
