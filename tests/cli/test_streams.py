"""Real processes whose output goes to a reader that leaves, or to a place that takes no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nomoat", *words]


def test_a_reader_that_has_left_is_no_error_of_a_verb_that_lists(own_home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(command("pull"), stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    assert ran.returncode == 0
    assert "Traceback" not in ran.stderr and "Exception ignored" not in ran.stderr


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="closes streams by a shell")
def test_streams_that_were_closed_beforehand_are_written_to_nobody(own_home: Path) -> None:
    words = [*command("pull"), "nothing-of-that-name"]
    ran = subprocess.run(["/bin/sh", "-c", '"$@" <&- >&- 2>&-', "sh", *words], timeout=120)
    assert ran.returncode == 3
    ran = subprocess.run(["/bin/sh", "-c", '"$@" >&-', "sh", *command("pull")], stderr=subprocess.PIPE, timeout=120)
    assert ran.returncode == 0
    assert b"Traceback" not in ran.stderr and b"error" not in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_file_that_takes_no_more_output_is_told_in_our_words(own_home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command("pull"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert ran.returncode == 8
    assert "the output cannot be written: no space left" in ran.stderr and "Traceback" not in ran.stderr


def test_long_work_that_nobody_listens_to_stops_and_names_what_goes_on(own_home: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i} and 1?", "completion": f"{i + 1}"} for i in range(50)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = str(tiny_folder(tmp_path / "base"))
    flags = ["--base", base, "--threads", "1", "--max-steps", "5000", "--probe-seconds", "0", "--name", "sums"]
    process = subprocess.Popen(
        command("tune", str(tmp_path / "sums.jsonl"), *flags, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    while json.loads(process.stdout.readline())["record"] != "step":
        pass
    process.stdout.close()  # as `| head` does
    told = process.stderr.read()
    assert process.wait(timeout=120) == 130
    assert "nobody reads the output any more" in told and "nomoat tune --resume sums-1" in told
    assert "Traceback" not in told and "Exception ignored" not in told
    assert list((own_home / "runs" / "sums-1").glob("checkpoint-*"))
