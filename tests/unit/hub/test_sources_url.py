"""Pulling an address."""

from __future__ import annotations

import hashlib

import pytest

from loopback import FakeHub, gguf_bytes
from nomoat.core.bases import resolve_base
from nomoat.core.errors import HashMismatch, NetworkError, NotFound, UsageError


@pytest.fixture
def address(hub: FakeHub) -> str:
    hub.repos["acme/files"] = {"Tiny.Q8_0.gguf": gguf_bytes()}
    return f"{hub.url}/storage/acme/files/Tiny.Q8_0.gguf"


def test_a_file_behind_an_address_becomes_a_base_of_its_name(do_pull, store, address) -> None:
    pulled = do_pull(address)
    assert pulled.result["name"] == "tiny.q8_0"
    assert resolve_base(store, "tiny.q8_0").read_bytes() == gguf_bytes()
    assert hashlib.sha256(gguf_bytes()).hexdigest() in pulled.notes


def test_secrets_in_a_signed_address_are_not_recorded(do_pull, store, address) -> None:
    do_pull(address + "?X-Signature=s3cret")
    record = (store.path("bases", "tiny.q8_0") / "nomoat.json").read_text()
    assert "s3cret" not in record


def test_a_given_hash_is_checked(do_pull, store, address) -> None:
    with pytest.raises(HashMismatch):
        do_pull(address, sha256="00" * 32)
    assert store.names("bases") == []
    do_pull(address, sha256=hashlib.sha256(gguf_bytes()).hexdigest())


def test_the_hash_a_hub_states_on_its_redirect_is_checked(do_pull, hub, address) -> None:
    hub.behaviour.corrupt = True
    with pytest.raises(HashMismatch):
        do_pull(address.replace("/storage/acme/files/", "/acme/files/resolve/" + "0123456789abcdef" * 2 + "01234567/"))


def test_a_missing_file_is_not_found(do_pull, hub) -> None:
    with pytest.raises(NotFound):
        do_pull(f"{hub.url}/nothing.gguf")


def test_plain_http_to_another_machine_is_refused_without_a_request(do_pull) -> None:
    with pytest.raises(UsageError, match="not https"):
        do_pull("http://example.com/model.gguf")


def test_a_redirect_to_plain_http_is_refused(do_pull, hub, monkeypatch) -> None:
    monkeypatch.setattr(FakeHub, "url", "http://example.com")  # where the fake hub now redirects to
    here = f"http://127.0.0.1:{hub._server.server_address[1]}"
    hub.repos["acme/files"] = {"x.gguf": gguf_bytes()}
    with pytest.raises(UsageError, match="not https"):
        do_pull(f"{here}/acme/files/resolve/0123456789abcdef0123456789abcdef01234567/x.gguf")


def test_a_closed_port_is_a_network_error(do_pull) -> None:
    with pytest.raises(NetworkError, match="cannot be reached"):
        do_pull("http://127.0.0.1:9/model.gguf")


@pytest.mark.parametrize("address", ["https:///x.gguf", "https://exa mple.com:port/x"])
def test_a_malformed_address_is_a_usage_error(do_pull, address: str) -> None:
    with pytest.raises(UsageError):
        do_pull(address)
