"""A base from a Hugging Face hub, over its HTTP API.

``GET /api/models/{repo}/revision/{revision}?blobs=true`` gives the commit and each file's size and hash;
``GET /{repo}/resolve/{commit}/{file}`` the file. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.
https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from nomoat.core.errors import FormatError, HashMismatch, NetworkError, NotFound
from nomoat.core.records import Note, Record
from nomoat.hub import licences
from nomoat.hub.client import hub_endpoint, hub_is_offline, open_client, out_of_reach, status_error
from nomoat.hub.download import Request, download
from nomoat.hub.sources import Fetched, HubSource

# Four bits first: the smallest that keep most of the quality, and what the kernels are fastest on.
PREFERENCE = (
    *("Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1"),
    *("Q6_K", "Q8_0", "Q3_K_M", "Q3_K_L", "Q3_K_S", "Q2_K", "BF16", "F16", "F32"),
)
_TAG = re.compile(r"(?:^|[-._])((?:I?Q\d\w*?|B?F16|F32))(?=\.gguf$)", re.IGNORECASE)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_NOT_A_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_FOLDER_FILES = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|tokenizer\.model|"
    r"special_tokens_map\.json|added_tokens\.json|vocab\.json|merges\.txt|chat_template\.(?:jinja|json)|"
    r"[\w.-]+\.safetensors|model\.safetensors\.index\.json"
)
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub lists it. Of the two hashes one is stated: SHA-256 for LFS, git's for the rest."""

    name: str
    size_bytes: int | None
    sha256: str
    git_sha1: str


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    repo: str
    commit: str
    files: tuple[HubFile, ...]
    licence: str


def fetch(source: HubSource, downloads: Path) -> Generator[Record, None, Fetched]:
    """Fetch the chosen GGUF file, or else the safetensors folder, at the revision's present commit."""
    if hub_is_offline():
        raise NetworkError("the hub is not asked: HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE to pull from it")
    endpoint = hub_endpoint()
    host = httpx.URL(endpoint).netloc.decode("ascii")
    with open_client(os.environ.get("HF_TOKEN", ""), host) as client:
        listing = _list(client, endpoint, source)
        ggufs = [file for file in listing.files if _is_whole_gguf(file.name)]
        if source.file or ggufs:
            return (yield from _fetch_gguf(client, endpoint, source, listing, ggufs, downloads))
        return (yield from _fetch_folder(client, endpoint, source, listing, downloads))


def _list(client: httpx.Client, endpoint: str, source: HubSource) -> Listing:
    url = f"{endpoint}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}?blobs=true"
    try:
        response = client.get(url)
    except httpx.TransportError as error:
        raise out_of_reach(url, error) from error
    if response.status_code != 200:
        raise status_error(url, response)
    try:
        values = response.json()
        files = tuple(_file(each) for each in values["siblings"])
        card = values.get("cardData") or {}
        stated = str(card.get("license_name") or card.get("license") or "")
        return Listing(source.repo, str(values["sha"]), files, licences.readable(stated))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NetworkError(f"{endpoint} does not answer like a hub: {error}", hint="check HF_ENDPOINT") from error


def _file(values: dict[str, Any]) -> HubFile:
    lfs = values.get("lfs") or {}
    sha256 = str(lfs.get("sha256") or lfs.get("oid") or "")
    size = lfs.get("size", values.get("size"))
    return HubFile(
        name=str(values["rfilename"]),
        size_bytes=int(size) if size is not None else None,
        sha256=sha256 if _HEX_SHA256.fullmatch(sha256) else "",
        git_sha1="" if lfs else str(values.get("blobId") or ""),
    )


def _is_whole_gguf(name: str) -> bool:
    return name.endswith(".gguf") and not _SHARD.search(name) and not _NOT_A_MODEL.search(name)


def quantization_tag(name: str) -> str:
    """``Q4_K_M`` of ``model-q4_k_m.gguf``; empty where the file name says nothing."""
    match = _TAG.search(name)
    return match[1].upper() if match else ""


def choose(files: list[HubFile], wanted: str, repo: str) -> HubFile:
    """The file called ``wanted``, or of that quantization; without a wish the first of ``PREFERENCE``."""
    if wanted:
        for file in files:
            if file.name == wanted or quantization_tag(file.name) == wanted.upper():
                return file
        names = ", ".join(file.name for file in files[:12])
        raise NotFound(f"hf:{repo} has no file {wanted!r}", hint=f"it has: {names or 'no GGUF file'}")
    rank = {tag: place for place, tag in enumerate(PREFERENCE)}
    return min(files, key=lambda file: (rank.get(quantization_tag(file.name), len(rank)), file.name))


def _fetch_gguf(
    client: httpx.Client,
    endpoint: str,
    source: HubSource,
    listing: Listing,
    ggufs: list[HubFile],
    downloads: Path,
) -> Generator[Record, None, Fetched]:
    file = choose(ggufs, source.file, source.repo)
    if not source.file and len(ggufs) > 1:
        why = "4-bit is the usual balance" if "4" in quantization_tag(file.name)[:3] else "the first we can use"
        yield Note(
            f"{len(ggufs)} GGUF files in {source.repo}: taking {file.name} ({why}); another with hf:{source.repo}:FILE"
        )
    if source.sha256 and file.sha256 and source.sha256 != file.sha256:
        raise HashMismatch(
            f"hf:{source.repo} has another {file.name} now: {file.sha256}, not {source.sha256}",
            hint=f"to take it all the same: nomoat pull hf:{source.repo}:{file.name}",
        )
    url = _resolve_url(endpoint, listing, file)
    request = Request(url, file.name, source.sha256 or file.sha256, file.git_sha1, file.size_bytes)
    done = yield from download(client, request, downloads)
    origin = f"hf:{source.repo}:{file.name}@{listing.commit}"
    return Fetched(origin, done.sha256, done.size_bytes, {"model.gguf": done.path}, licence=listing.licence)


def _fetch_folder(
    client: httpx.Client, endpoint: str, source: HubSource, listing: Listing, downloads: Path
) -> Generator[Record, None, Fetched]:
    chosen = [file for file in listing.files if _FOLDER_FILES.fullmatch(file.name)]
    names = {file.name for file in chosen}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        kinds = sorted({Path(file.name).suffix for file in listing.files})
        raise FormatError(
            f"hf:{source.repo} has neither one whole GGUF file nor config.json with safetensors"
            f" (it has {', '.join(kinds)})",
            hint="pickled weights (.bin, .pt) are not read: they can run code",
        )
    files, digest, size = {}, hashlib.sha256(), 0
    for file in sorted(chosen, key=lambda each: each.name):
        url = _resolve_url(endpoint, listing, file)
        request = Request(url, file.name, file.sha256, file.git_sha1, file.size_bytes)
        done = yield from download(client, request, downloads)
        files[file.name] = done.path
        digest.update(f"{done.sha256}  {file.name}\n".encode())
        size += done.size_bytes
    if source.sha256 and digest.hexdigest() != source.sha256:
        raise HashMismatch(f"hf:{source.repo}: the folder's hash is {digest.hexdigest()}, not {source.sha256}")
    origin = f"hf:{source.repo}@{listing.commit}"
    return Fetched(origin, digest.hexdigest(), size, files, licence=listing.licence)


def _resolve_url(endpoint: str, listing: Listing, file: HubFile) -> str:
    return f"{endpoint}/{listing.repo}/resolve/{quote(listing.commit, safe='')}/{quote(file.name)}"
