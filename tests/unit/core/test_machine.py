"""What the machine has, as a container may cut it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.core import machine


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


def test_without_a_control_group_the_host_counts(cgroup: Path) -> None:
    import psutil

    assert machine.memory().total_bytes == psutil.virtual_memory().total
    assert machine.cores() >= 1


def test_a_memory_limit_counts_instead_of_the_hosts(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("100000000\n")
    (cgroup / "memory.current").write_text("30000000\n")
    assert machine.memory() == machine.Memory(100_000_000, 70_000_000)


def test_an_old_style_memory_limit_counts_too(cgroup: Path) -> None:
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("50000000")
    assert machine.memory() == machine.Memory(50_000_000, 50_000_000)


def test_no_limit_is_no_limit(cgroup: Path) -> None:
    import psutil

    (cgroup / "memory.max").write_text("max\n")
    assert machine.memory().total_bytes == psutil.virtual_memory().total


def test_a_processor_quota_cuts_the_cores_but_never_below_one(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("50000 100000\n")
    assert machine.cores() == 1


def test_free_space_is_told_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.disk_free_bytes(tmp_path / "a" / "b") > 0


def test_the_speed_probe_measures_something_in_the_time_it_is_given() -> None:
    speed = machine.probe_speed(0.1)
    assert speed.gflops > 0 and speed.memory_gb_s > 0
