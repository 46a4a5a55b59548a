"""The kernels compiled for Arm and run in an emulator: the numbers of this machine's portable kernels.

Needs a cross compiler and an emulator of user programs (Debian: ``g++-aarch64-linux-gnu qemu-user-static``).
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nomoat.kernels import native

ROOT = Path(__file__).parent.parent.parent.parent
PROGRAM = ROOT / "tests" / "kernels_program.cpp"
COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
LIBRARIES = "/usr/aarch64-linux-gnu"  # where the cross compiler keeps the loader and the C library
CPUS = {"max": "neon-dot", "cortex-a53": "portable"}  # what the int8 products become on each

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (COMPILER and EMULATOR), reason="no compiler and emulator for Arm"),
    pytest.mark.skipif(not native.built() or not shutil.which("g++"), reason="nothing to compare with"),
]


@dataclasses.dataclass(frozen=True)
class Result:
    how: str
    values: np.ndarray


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What this machine's portable kernels make of the program's numbers."""
    program, library = tmp_path_factory.mktemp("here") / "program", native.library()._name
    # The library leaves Python's own symbols open, and the program calls none that needs them.
    _compile("g++", "-O1", f"-I{ROOT}/csrc", PROGRAM, library, "-Wl,--unresolved-symbols=ignore-all", "-o", program)
    return _run([program, "0"])[0]


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm")
    sources = [PROGRAM, *(path for path in sorted((ROOT / "csrc").glob("*.cpp")) if path.name != "module.cpp")]

    def build(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        _compile(COMPILER, "-O3", "-ffp-contract=off", f"-I{ROOT}/csrc", "-c", source, "-o", made)
        return made

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(build, sources))
    _compile(COMPILER, *objects, "-pthread", "-ldl", "-o", folder / "program")
    return folder / "program"


@pytest.mark.parametrize("number", ["0", "4"])
@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_makes_on_arm_what_it_makes_here(
    arm: Path, here: dict[str, Result], cpu: str, number: str
) -> None:
    found, said = _run([EMULATOR, "-cpu", cpu, "-L", LIBRARIES, arm, number])
    assert said.split() == ["portable", CPUS[cpu] if number != "0" else "portable", "0"]
    assert found.keys() == here.keys()
    for name, result in found.items():
        wanted = here[name].values
        assert np.isfinite(wanted).all(), name
        if result.how == "exact":
            assert np.array_equal(result.values, wanted), name
        else:
            np.testing.assert_allclose(result.values, wanted, rtol=1e-5, atol=1e-5 * abs(wanted).max(), err_msg=name)


def _compile(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _run(command: list[object]) -> tuple[dict[str, Result], str]:
    """The results that a program wrote, by name, and what it said of itself."""
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found, data = dict[str, Result](), done.stdout
    while data:
        line, data = data.split(b"\n", 1)
        name, how, kind, count = line.decode().split()
        size = int(count) * np.dtype(kind).itemsize
        found[name] = Result(how, np.frombuffer(data[:size], kind))
        data = data[size:]
    return found, done.stderr.decode()
