"""``nomoat doctor``: what this machine can do, what is missing, and what that costs."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nomoat.cli.environment import Environment
from nomoat.cli.tables import print_table
from nomoat.core.amounts import counted, size

_OPTIONAL = {
    "pypdf": ("documents", "reading .pdf"),
    "python-docx": ("documents", "reading .docx"),
    "beautifulsoup4": ("documents", "reading .html"),
    "pyarrow": ("tables", "reading .parquet and `datasets` folders"),
}
"""By distribution: the extra of nomoat that brings it, and what it is for."""
_LEAST_FREE_BYTES = 5 * 10**9
_EXAMPLES = {"smollm2-135m": (134_515_008, 98_362_432), "qwen2.5-0.5b": (494_032_768, 491_400_032)}
"""Parameters, and bytes of the file, of two bases that people tune."""
# A LoRA step multiplies every frozen weight twice forward and twice backward for each token: 4 operations a
# parameter. Norms, attention, quantization and the optimiser leave about this much of the products' speed.
_TUNE_SHARE = 0.6
_DECODE_SHARE = 0.5
_ARM = ("aarch64", "arm64")
_TWINS_COST = "everything works on the PyTorch twins, several times slower, and int8 is not to be had. "
_UNSET = "unset NOMOAT_KERNELS"
_SLEEPY = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""Settings of OpenMP that put its threads to sleep after every parallel part."""
_COMPILE = (
    "Install a C++ compiler (Debian: apt install g++), then reinstall: pip install --force-reinstall --no-deps nomoat"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``mend`` is empty where all is well."""

    what: str
    value: str
    ok: bool = True
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-probe", action="store_true", help="skip the speed probe (about 2 s)")


def run(args: argparse.Namespace, env: Environment) -> int:
    findings = []
    for finding in _examine(env, probe=not args.no_probe):
        findings.append(finding)
        if args.json:
            env.print(json.dumps({"record": "finding", **asdict(finding)}))
    if not args.json:
        rows = [("ok" if each.ok else "!", each.what, each.value) for each in findings]
        print_table(env, ("", "what", "found"), rows)
        for each in findings:
            if each.mend:
                env.say(f"\n{each.what}: {each.mend}")
    return 0


def _examine(env: Environment, *, probe: bool) -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    yield Finding("system", f"{platform.system()} {platform.machine()}")
    yield from _torch()
    yield from _kernels()
    yield from _machine()
    yield from _home(env.store.home)
    yield from _optional()
    for name in sorted(name for name in os.environ if name.startswith("NOMOAT_")):
        yield Finding(name, os.environ[name])
    if probe:
        yield from _speed()


def _torch() -> Iterator[Finding]:
    import torch

    from nomoat.core.machine import cores

    threads, usable = torch.get_num_threads(), cores()
    fits = threads <= usable
    mend = "" if fits else f"more threads than cores slow each other down: set OMP_NUM_THREADS={usable}"
    level = torch.backends.cpu.get_cpu_capability()  # "DEFAULT" where torch has no name for it, as on Arm
    vectors = "" if level == "DEFAULT" else f", {level}"
    yield Finding("torch", f"{torch.__version__}, {counted(threads, 'thread')}{vectors}")
    if not fits:
        yield Finding("threads", f"{threads} on {usable} cores", False, mend)
    for name, slow in _SLEEPY.items():
        if os.environ.get(name, "").casefold() == slow:
            mend = f"threads that sleep between the short parts of a step make it several times slower: unset {name}"
            yield Finding(name, os.environ[name], False, mend)


def _kernels() -> Iterator[Finding]:
    from nomoat.kernels import int8_native, native

    if not native.available():
        asked = os.environ.get("NOMOAT_KERNELS") == "reference"
        yield Finding("kernels", native.status(), False, _TWINS_COST + (_UNSET if asked else _COMPILE))
        return
    limit = os.environ.get("NOMOAT_KERNELS", "")
    mend = f"it may do more: {_UNSET}" if limit else ""
    neon = " (NEON, as the compiler made it)" if platform.machine().lower() in _ARM else ""
    yield Finding("kernels", native.status() + neon + (f", held to {limit}" if limit else ""), not limit, mend)
    tiles, quick = native.has_tiles(), int8_native.is_quick()
    int8 = int8_native.makes_quick_steps()
    auto = "bfloat16" if tiles else "int8, where there is memory for its copies" if int8 else "float32"
    yield Finding("bfloat16 tiles", f"{'yes' if tiles else 'no'}: --precision auto trains in {auto}")
    yield Finding(
        "int8 kernels",
        int8_native.instruction_set(),
        quick,
        "" if quick else "this processor multiplies 8-bit numbers no faster than float32: leave --precision at auto",
    )


def _machine() -> Iterator[Finding]:
    from nomoat.core.machine import cores, memory

    have = memory()
    yield Finding("cores", str(cores()))
    enough = have.available_bytes >= 2e9
    yield Finding(
        "memory",
        f"{size(have.total_bytes)}, {size(have.available_bytes)} free",
        enough,
        "" if enough else "tuning the smallest base takes about 1.5 GB: close other programs first",
    )


def _home(home: Path) -> Iterator[Finding]:
    from nomoat.core.machine import disk_free_bytes

    free = disk_free_bytes(home)
    roomy = free >= _LEAST_FREE_BYTES
    yield Finding(
        "disk",
        f"{size(free)} free for {home}",
        roomy,
        "" if roomy else "bases take 0.1 to 1.2 GB each; point NOMOAT_HOME at a larger disk",
    )
    problem = _write_problem(home)
    mend = "" if not problem else "point NOMOAT_HOME at a folder that you may write"
    yield Finding("home", f"{home}: {problem or 'can be written'}", not problem, mend)


def _write_problem(home: Path) -> str:
    """Why nothing can be written under the home; empty if it can. Leaves nothing behind."""
    existing = next(each for each in (home, *home.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _optional() -> Iterator[Finding]:
    for name, (extra, use) in _OPTIONAL.items():
        try:
            found, mend = importlib.metadata.version(name), ""
        except importlib.metadata.PackageNotFoundError:
            found, mend = "not installed", f"pip install 'nomoat[{extra}]'"
        yield Finding(f"{name} (optional)", f"{found}: {use}", mend=mend)


def _speed() -> Iterator[Finding]:
    from nomoat.core.machine import probe_speed

    speed = probe_speed(2.0)
    yield Finding("speed", f"{speed.gflops:,.0f} GFLOP/s float32, {speed.memory_gb_s:,.1f} GB/s memory")
    for name, (parameters, n_bytes) in _EXAMPLES.items():
        tune = _TUNE_SHARE * speed.gflops * 1e9 / (4 * parameters)
        chat = _DECODE_SHARE * speed.memory_gb_s * 1e9 / n_bytes
        yield Finding(f"estimate for {name}", f"tunes about {tune:,.0f} tokens/s, chats about {chat:,.0f} tokens/s")
