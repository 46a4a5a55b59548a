"""The Python API does what the command line does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nomoat
from nomoat.core.records import Record
from nomoat.core.store import Store
from tiny import tiny_folder


def test_every_name_that_is_promised_is_there() -> None:
    assert all(callable(getattr(nomoat, name)) for name in nomoat.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import nomoat, sys; print([name for name in ('torch', 'numpy', 'fastapi') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_rows_become_adapters_that_stack_and_merge(tmp_path: Path) -> None:
    tiny_folder(Store().path("bases", "tiny"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"{n}?", "completion": f"{n}!"}) for n in range(40)))
    nomoat.add_data(nomoat.AddOptions(paths=(str(rows),), name="mine"))
    seen: list[Record] = []
    for name, seed in (("one", 0), ("two", 1)):
        options = nomoat.TuneOptions(
            data="mine", base="tiny", name=name, rank=2, max_steps=2, seed=seed, probe_seconds=0, threads=1
        )
        result = nomoat.tune(options, show=seen.append)
        assert result["steps"] == 2
    both = nomoat.combine(["one", "two:0.5"], "both")
    assert both["highest_rank"] == 4
    merged = nomoat.merge("tiny+both", "whole")
    nomoat.unmerge("whole", "again")
    text = nomoat.answer("tiny+one+two:0.5", "7?", nomoat.Sampling(max_tokens=4))
    assert merged and nomoat.answer("models/whole", "7?", nomoat.Sampling(max_tokens=4)) == text
    assert any(type(record).__name__ == "Step" for record in seen)
