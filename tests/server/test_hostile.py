"""Whatever is sent, the answer is a clear 4xx and the next request is served."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def still_serves(live: Any) -> Iterator[None]:
    """Every test leaves the server as it was."""
    yield
    assert live.post("/v1/chat/completions", model="tiny", messages=HELLO, max_tokens=1).status_code == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"\xff\xfe{}", 400),
        (b"[1, 2]", 400),
        (b'{"messages": ', 400),
        (b"[" * 200_000, 400),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
        (b'{"messages": [], "n": ' + b"9" * 10_000 + b"}", 400),
        (json.dumps({"messages": [{"role": "user", "content": "\ud800"}]}).encode(), 400),
        (b'{"x": "' + b"a" * (9 << 20) + b'"}', 413),
    ],
)
def test_a_body_that_is_no_request_is_refused(live: Any, data: bytes, status: int) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/api/chat", "/v1/embeddings", "/lora-adapters"):
        reply = live.http.post(path, content=data)
        assert reply.status_code == status or (path != "/v1/chat/completions" and 400 <= reply.status_code < 500)


@pytest.mark.parametrize(
    "model",
    ["../../etc", "/etc/passwd", "tiny+../tiny", "tiny+odd:nan", "tiny+odd+odd", "+", "tiny+", "odd\x00", "a" * 9999],
)
def test_a_model_name_opens_no_path(live: Any, model: str) -> None:
    reply = live.post("/v1/chat/completions", model=model, messages=HELLO)
    assert reply.status_code in (400, 404) and reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/etc", "../bases/tiny", "~", "\\\\host\\share", "odd/../../..", "/proc/self"])
def test_an_adapter_is_loaded_from_no_folder_that_the_owner_did_not_name(live: Any, path: str) -> None:
    reply = live.post("/v1/load_lora_adapter", lora_name="mine", lora_path=path)
    assert reply.status_code == 403 and reply.json()["error"]["code"] == "path_not_allowed"
    assert live.post("/v1/load_lora_adapter", lora_name="../x", lora_path="odd").status_code == 400


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        _nested(40),
        {"type": "array", "minItems": 10**9, "items": {"type": "string"}},
        {"allOf": [{"type": "string", "pattern": f".*a{{{i}}}.*"} for i in range(1, 40)]},
        {"$ref": "http://example.invalid/schema"},
        {"$ref": "#"},
        {"enum": ["x" * 100] * 1000},
        {"type": "string", "pattern": "a{1,1000}" * 1000},
    ],
)
def test_a_hostile_schema_is_refused_at_once(live: Any, schema: dict[str, Any]) -> None:
    started = time.monotonic()
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = live.post("/v1/chat/completions", model="tiny", messages=HELLO, response_format=form)
    assert reply.status_code == 400 and time.monotonic() - started < 10


@pytest.mark.parametrize("regex", ["[", "(?=x)y", "a" * 100_000, "(?:(?:a{1,100}){1,100}){1,100}"])
def test_a_hostile_pattern_ends_in_an_error_and_not_in_a_hang(live: Any, regex: str) -> None:
    """The last one passes at first and explodes some letters into the answer."""
    letter = live.post("/tokenize", content="a", add_special_tokens=False).json()["tokens"][0]
    body = {"model": "tiny", "messages": HELLO, "response_format": {"type": "regex", "regex": regex}}
    reply = live.post("/v1/chat/completions", **body, max_tokens=200, logit_bias={str(letter): 100})
    assert reply.status_code == 400 and reply.json()["error"]["code"] in ("invalid_constraint", "regex_too_large")


@pytest.mark.parametrize(
    "field",
    [
        {"n": 1000},
        {"stop": [""] * 1000},
        {"logit_bias": {"99999999": 1}},
        {"logit_bias": {"-1": 1}},
        {"temperature": 1e9},
        {"top_p": 0},
        {"functions": [{"name": "f"}]},
        {"tools": [{"type": "retrieval"}]},
        {"tool_choice": "required"},
        {"top_logprobs": 5},
        {"best_of": 3},
        {"max_tokens": 0},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
        {"lora": [{"id": 10**9, "scale": 1}]},
    ],
)
def test_a_field_that_cannot_be_kept_is_refused_by_name(live: Any, field: dict[str, Any]) -> None:
    reply = live.post("/v1/chat/completions", **({"model": "tiny", "messages": HELLO} | field))
    assert 400 <= reply.status_code < 500 and reply.json()["error"]["message"]


def test_a_field_that_nobody_knows_is_ignored(live: Any) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 1, "from_the_future": {"x": 1}, "user": "me"}
    assert live.post("/v1/chat/completions", **body).status_code == 200


def test_other_pages_and_other_hosts_are_kept_out(live: Any) -> None:
    foreign = live.http.get("/v1/models", headers={"Origin": "https://example.com"})
    assert foreign.status_code == 403 and "--allow-origins" in foreign.json()["error"]["message"]
    assert live.http.get("/v1/models", headers={"Host": "example.com"}).status_code == 403
    assert live.http.get("/v1/models", headers={"Origin": live.url}).status_code == 200
    told = live.http.get("/api/tags", headers={"Origin": "https://example.com"})
    assert told.status_code == 403 and "--allow-origins" in told.json()["error"]  # as Ollama's clients read errors


def test_clients_that_send_slowly_or_nothing_hold_nobody_up(live: Any) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    with contextlib.ExitStack() as open_ones:
        for _ in range(50):
            connection = open_ones.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(head)
        assert live.post("/v1/chat/completions", model="tiny", messages=HELLO, max_tokens=1).status_code == 200


def test_a_client_that_reads_nothing_holds_nobody_up(live: Any) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 400, "stream": True}
    with live.http.stream("POST", "/v1/chat/completions", json=body):
        assert live.post("/v1/chat/completions", model="odd", messages=HELLO, max_tokens=1).status_code == 200


def test_what_is_no_http_is_dropped(live: Any) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert b"400" in connection.recv(1000)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"https://{host}:{port}/", timeout=5)
