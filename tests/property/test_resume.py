"""A run that is interrupted, however it happens, ends with the bytes of one that is not."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nomoat.core.records import Step
from nomoat.core.store import Store
from nomoat.train.options import TuneOptions
from nomoat.train.tune import resume, tune
from tiny import tiny_folder

STEPS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, rows, and a home in which the run ``whole`` went through undisturbed."""
    folder = tmp_path_factory.mktemp("resume")
    tiny_folder(folder / "base")
    rows = [{"prompt": f"{i} times 7?", "completion": f"It is {i * 7}"} for i in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    list(tune(dataclasses.replace(options(folder), name="whole"), Store(folder / "home")))
    return folder


def options(place: Path) -> TuneOptions:
    return TuneOptions(
        data=str(place / "rows.jsonl"),
        base=str(place / "base"),
        name="cut",
        rank=4,
        max_steps=STEPS,
        epochs=9.0,
        lr=5e-3,
        batch_size=4,
        eval_every=5,
        eval_rows=4,
        threads=1,
        probe_seconds=0.0,
    )


def adapter(place: Path, name: str) -> tuple[bytes, bytes]:
    folder = Store(place / "home").find("adapters", name)
    return (folder / "adapter_config.json").read_bytes(), (folder / "adapter_model.safetensors").read_bytes()


def losses(place: Path, run: str) -> list[tuple[int, float]]:
    log = (place / "home" / "runs" / run / "log.jsonl").read_text()
    records = [json.loads(line) for line in log.splitlines()]
    return [(record["step"], record["loss"]) for record in records if record["record"] in ("step", "eval")]


@pytest.mark.parametrize("stops", [(1,), (5,), (7, 2, 2), (11,)])
def test_closed_after_any_step_and_resumed_it_is_the_undisturbed_run(place: Path, stops: tuple[int, ...]) -> None:
    store, name = Store(place / "home"), "closed-" + "-".join(map(str, stops))
    records = tune(dataclasses.replace(options(place), name=name), store)
    for n_steps in stops:
        while n_steps:
            n_steps -= isinstance(next(records), Step)
        records.close()
        records = resume(f"{name}-1", store)
    assert store.names("adapters").count(name) == 0
    list(records)
    assert adapter(place, name)[1] == adapter(place, "whole")[1]
    assert losses(place, f"{name}-1") == losses(place, "whole-1")


KILLED = """
import json, os, signal, sys, threading
from nomoat.core.records import Step
from nomoat.core.store import Store
from nomoat.train.options import TuneOptions
from nomoat.train.tune import tune

values, home, kill_at, delay_s = json.loads(sys.argv[1])
values["target_modules"] = tuple(values["target_modules"])
for record in tune(TuneOptions(**values), Store(home)):
    if isinstance(record, Step) and record.step == kill_at:
        threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
"""


@pytest.mark.parametrize(("kill_at", "delay_s"), [(2, 0.0), (6, 0.004)])
def test_killed_without_warning_and_resumed_it_is_the_undisturbed_run(
    place: Path, kill_at: int, delay_s: float
) -> None:
    name = f"killed-{kill_at}"
    values = dataclasses.asdict(dataclasses.replace(options(place), name=name))
    argument = json.dumps([values, str(place / "home"), kill_at, delay_s])
    done = subprocess.run([sys.executable, "-c", KILLED, argument], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(place / "home")
    assert name not in store.names("adapters")
    list(resume(f"{name}-1", store))
    assert adapter(place, name)[1] == adapter(place, "whole")[1]
    assert losses(place, f"{name}-1") == losses(place, "whole-1")
    assert not [path for path in (place / "home").rglob(".*") if path.is_dir()], "a half-written folder is left"
