"""The package builds where there is no compiler; it is slower there, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is not chosen by CC there")
def test_a_compiler_that_fails_leaves_the_kernels_out_and_builds_the_rest(tmp_path: Path) -> None:
    environment = dict(os.environ, CC="/bin/false", CXX="/bin/false")
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [package] = tmp_path.glob("lib*/nomoat")
    assert (package / "kernels" / "native.py").exists() and not list(package.glob("kernels/_native*"))
    code = "from nomoat.kernels import native; assert not native.available(); print(native.status())"
    alone = dict(environment, PYTHONPATH=str(package.parent))
    said = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=False)
    assert "without a C++ compiler" in said.stdout, said.stderr
