"""``nomoat doctor``: every line of the examination, and what is missing with its mend."""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path

import pytest

from terminal import Ran, nomoat


def by_name(ran: Ran) -> dict[str, dict[str, object]]:
    return {record["what"]: record for record in ran.records}


def test_it_examines_everything_and_writes_nothing(own_home: Path) -> None:
    found = by_name(nomoat("doctor", "--no-probe", "--json"))
    expected = {"python", "system", "torch", "kernels", "cores", "memory", "disk", "home", "NOMOAT_HOME"}
    assert expected <= set(found)
    assert found["home"]["ok"] is True
    assert not own_home.exists()


def test_reference_kernels_are_said_with_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    kernels = by_name(nomoat("doctor", "--no-probe", "--json"))["kernels"]
    assert kernels["ok"] is False and "slower" in str(kernels["mend"])


def test_openmp_threads_that_sleep_between_parts_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    found = by_name(nomoat("doctor", "--no-probe", "--json"))
    assert found["OMP_WAIT_POLICY"]["ok"] is False and "unset OMP_WAIT_POLICY" in str(found["OMP_WAIT_POLICY"]["mend"])
    assert "GOMP_SPINCOUNT" not in found
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "OMP_WAIT_POLICY" not in by_name(nomoat("doctor", "--no-probe", "--json"))


def test_the_active_level_is_said_and_one_that_is_held_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from nomoat.kernels import native

    if not native.available():
        pytest.skip("the kernels are not built here")
    found = by_name(nomoat("doctor", "--no-probe", "--json"))
    assert found["kernels"]["ok"] is True and "compiled kernels, " in str(found["kernels"]["value"])
    monkeypatch.setenv("NOMOAT_KERNELS", "portable")
    held = by_name(nomoat("doctor", "--no-probe", "--json"))
    assert "portable" in str(held["kernels"]["value"]) and "unset NOMOAT_KERNELS" in str(held["kernels"]["mend"])
    assert held["int8 kernels"]["value"] == "portable" and held["int8 kernels"]["ok"] is False


def test_on_arm_the_vectors_are_named_and_int8_goes_by_its_dot_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr("nomoat.kernels.native.available", lambda: True)
    monkeypatch.setattr("nomoat.kernels.native.has_tiles", lambda: False)
    monkeypatch.setattr("nomoat.kernels.native.status", lambda: "compiled kernels, portable")
    for sets, quick in (({0: "portable", 1: "neon-dot"}, True), ({0: "portable"}, False)):
        monkeypatch.setattr("nomoat.kernels.int8_native.instruction_sets", lambda sets=sets: sets)
        found = by_name(nomoat("doctor", "--no-probe", "--json"))
        assert found["kernels"]["ok"] is True and "NEON" in str(found["kernels"]["value"])
        assert str(found["bfloat16 tiles"]["value"]).startswith("no")
        assert found["int8 kernels"]["value"] == list(sets.values())[-1] and found["int8 kernels"]["ok"] is quick
        assert "DEFAULT" not in str(found["torch"]["value"])


def test_a_home_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NOMOAT_HOME", str(tmp_path / "file" / "home"))
    home = by_name(nomoat("doctor", "--no-probe", "--json"))["home"]
    assert home["ok"] is False and "NOMOAT_HOME" in str(home["mend"])


def test_little_memory_and_disk_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from nomoat.core.machine import Memory

    monkeypatch.setattr("nomoat.core.machine.memory", lambda: Memory(2 * 10**9, 10**9))
    monkeypatch.setattr("nomoat.core.machine.disk_free_bytes", lambda path: 10**9)
    found = by_name(nomoat("doctor", "--no-probe", "--json"))
    assert found["memory"]["ok"] is False and found["disk"]["ok"] is False


def test_a_missing_optional_package_is_said_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "pypdf":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    pypdf = by_name(nomoat("doctor", "--no-probe", "--json"))["pypdf (optional)"]
    assert "not installed" in str(pypdf["value"]) and "nomoat[documents]" in str(pypdf["mend"])


def test_more_threads_than_cores_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 512)
    assert "OMP_NUM_THREADS" in str(by_name(nomoat("doctor", "--no-probe", "--json"))["threads"]["mend"])


def test_the_probe_takes_seconds_and_predicts_speeds() -> None:
    start = time.monotonic()
    ran = nomoat("doctor")
    assert ran.code == 0
    assert "GFLOP/s" in ran.out and "tokens/s" in ran.out
    assert time.monotonic() - start < 20
