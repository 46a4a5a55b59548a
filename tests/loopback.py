"""A Hugging Face hub and a package index that live on this machine, for the tests of pull."""

from __future__ import annotations

import hashlib
import json
import random
import re
import struct
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def gguf_bytes(*, size: int = 300_000, seed: int = 0, licence: str = "apache-2.0", tensor_type: int = 0) -> bytes:
    """A GGUF version 3 file with one tensor of random bytes, ``size`` bytes or a little more in all."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.name") + struct.pack("<I", 8) + text("Tiny"),
        text("general.file_type") + struct.pack("<II", 4, tensor_type),
        text("llama.context_length") + struct.pack("<II", 4, 2048),
    ]
    if licence:
        pairs.append(text("general.license") + struct.pack("<I", 8) + text(licence))
    columns, rows = 256, size // 1024
    directory = text("token_embd.weight") + struct.pack("<IQQIQ", 2, columns, rows, tensor_type, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + directory
    head += bytes(-len(head) % 32)
    return head + random.Random(seed).randbytes(columns * rows * 4)


def git_blob_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Behaviour:
    """How the server misbehaves."""

    cut_after: list[int] = field(default_factory=list)
    """Bytes of the body after which the n-th file answer is cut off."""
    corrupt: bool = False
    no_ranges: bool = False
    status: int = 200
    lies_about_size: bool = False


@dataclass
class FakeHub:
    """Serves ``repos[repo][file]`` as a hub does: listing, redirect to storage, ranges, etags."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    card: dict[str, object] = field(default_factory=dict)
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(hub, self)

            def log_message(self, *_: object) -> None:
                return None

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that hangs up in the middle is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self, part: str) -> list[dict[str, str]]:
        """The headers of the requests whose path holds ``part``."""
        return [headers for path, headers in self.requests if part in path]


def _answer(hub: FakeHub, handler: BaseHTTPRequestHandler) -> None:
    path = handler.path.partition("?")[0]
    hub.requests.append((path, {key.lower(): value for key, value in handler.headers.items()}))
    if listing := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(\S+)", path):
        _send_listing(hub, handler, listing[1])
    elif resolve := re.fullmatch(rf"/([^/]+/[^/]+)/resolve/{COMMIT}/(\S+)", path):
        data = hub.repos.get(resolve[1], {}).get(resolve[2])
        if data is None:
            handler.send_error(404)
            return
        handler.send_response(302)
        handler.send_header("Location", f"{hub.url}/storage/{resolve[1]}/{resolve[2]}")
        if resolve[2].endswith((".gguf", ".safetensors")):
            handler.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    elif stored := re.fullmatch(r"/storage/([^/]+/[^/]+)/(\S+)", path):
        _send_file(hub, handler, hub.repos[stored[1]][stored[2]])
    else:
        handler.send_error(404)


def _send_listing(hub: FakeHub, handler: BaseHTTPRequestHandler, repo: str) -> None:
    if hub.behaviour.status != 200 or repo not in hub.repos:
        handler.send_error(hub.behaviour.status if hub.behaviour.status != 200 else 404)
        return
    siblings = []
    for name, data in hub.repos[repo].items():
        entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_blob_sha1(data)}
        if name.endswith((".gguf", ".safetensors")):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        siblings.append(entry)
    body = json.dumps({"sha": COMMIT, "siblings": siblings, "cardData": hub.card}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _send_file(hub: FakeHub, handler: BaseHTTPRequestHandler, data: bytes) -> None:
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    fresh = handler.headers.get("If-Range", etag) == etag
    start = int(wanted[1]) if wanted and fresh and not hub.behaviour.no_ranges else 0
    if start >= len(data):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(data)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    body = data[start:]
    if hub.behaviour.corrupt:
        body = body[:-1] + bytes([body[-1] ^ 1])
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.send_header("ETag", etag)
    handler.send_header("Content-Length", str(len(body) + (7 if hub.behaviour.lies_about_size else 0)))
    handler.end_headers()
    cut = hub.behaviour.cut_after.pop(0) if hub.behaviour.cut_after else len(body)
    handler.wfile.write(body[:cut])
    if cut < len(body):
        handler.wfile.flush()
        handler.connection.close()
        handler.close_connection = True


def write_wheel(folder: Path, package: str, entries: dict[str, bytes], *, version: str = "1.0.0") -> Path:
    """A wheel that pip accepts, holding ``entries`` as they are named."""
    module = package.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in entries.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path
