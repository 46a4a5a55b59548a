"""``nomoat pull``: the catalogue, progress for people and programs, the name on stdout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import FakeHub, gguf_bytes
from terminal import nomoat


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(repos={"acme/Tiny-GGUF": {"Tiny-Q4_0.gguf": gguf_bytes()}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        yield server


def test_without_a_name_the_catalogue_is_listed() -> None:
    ran = nomoat("pull")
    assert ran.code == 0
    assert "smollm2-135m-instruct" in ran.out and "Gemma Terms of Use" in ran.out


def test_the_catalogue_as_json_has_the_terms_of_each_licence() -> None:
    records = nomoat("pull", "--json").records
    assert len(records) == 9 and all(record["licence_url"].startswith("https://") for record in records)


def test_stdout_is_the_name_alone_and_the_talk_says_source_and_licence(hub: FakeHub) -> None:
    ran = nomoat("pull", "hf:acme/Tiny-GGUF", "--name", "mine")
    assert (ran.code, ran.out) == (0, "mine\n")
    assert "licence: Apache-2.0" in ran.err and "taken from hf:acme/Tiny-GGUF" in ran.err


def test_a_person_sees_the_same_sentences(hub: FakeHub) -> None:
    ran = nomoat("pull", "hf:acme/Tiny-GGUF", person=True)
    assert ran.code == 0 and "licence: Apache-2.0" in ran.err


def test_json_lines_hold_progress_in_bytes_and_end_with_done(hub: FakeHub) -> None:
    records = nomoat("pull", "hf:acme/Tiny-GGUF", "--json").records
    assert {"note", "progress", "saved", "done"} == {record["record"] for record in records}
    assert all(record["unit"] == "B" for record in records if record["record"] == "progress")
    assert records[-1]["result"]["licence"] == "Apache-2.0"


def test_a_local_file_is_linked(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes())
    ran = nomoat("pull", str(path))
    assert (ran.code, ran.out) == (0, "x\n")
    assert "linked, not copied" in ran.err


def test_an_interrupted_pull_says_how_to_go_on(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nomoat.hub.pull.write_lineage", stop)
    ran = nomoat("pull", "hf:acme/Tiny-GGUF")
    assert ran.code == 130 and "nomoat pull hf:acme/Tiny-GGUF goes on from there" in ran.err
    assert nomoat("ls").out == ""


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["hf:acme/none"], 3),
        (["hf:nonsense"], 2),
        (["./nowhere.gguf"], 3),
        (["hf:acme/Tiny-GGUF", "--sha256", "00" * 32], 7),
        (["hf:acme/Tiny-GGUF", "--name", "../x"], 2),
    ],
)
def test_failures_have_their_exit_codes(hub: FakeHub, argv: list[str], code: int) -> None:
    ran = nomoat("pull", *argv)
    assert (ran.code, ran.out) == (code, "") and ran.err.startswith("error: ")
