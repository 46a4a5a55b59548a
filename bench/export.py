"""What each preset costs a base that wears an adapter: size, time, KL and agreement, as a Markdown table.

    python bench/export.py                     SmolLM2-135M, every preset, with and without importance
    python bench/export.py --model qwen05 --only Q4_K_M Q8_0

The adapter is random and of the size of a strong tune. Importance comes from training rows of the built-in text-to-sql
set, the damage is measured on its test rows, against base and adapter unmerged; llama.cpp is asked what it makes
of each file, against our engine reading the same file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import models  # noqa: E402
from adapters import strong_adapter  # noqa: E402
from nomoat.core.records import returned  # noqa: E402
from nomoat.core.store import Store  # noqa: E402
from nomoat.engine.names import Worn  # noqa: E402
from nomoat.export.checked_rows import CheckedRows, rows_to_check  # noqa: E402
from nomoat.export.gguf_model import Merge, write_model  # noqa: E402
from nomoat.export.importance import measure_importance  # noqa: E402
from nomoat.export.llama_cpp import Loaded, check_llama_cpp, installed  # noqa: E402
from nomoat.export.logits import Bound, measure_damage  # noqa: E402
from nomoat.model.adapters import AdapterConfig  # noqa: E402
from nomoat.model.load import Base, load_base  # noqa: E402

SQL = HERE.parent / "src" / "nomoat" / "data" / "builtin" / "text-to-sql"
PRESETS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
ANYTHING = Bound(float("inf"), 0.0)


def line(base: Base, worn: Worn, preset: str, weighed: Any, rows: CheckedRows, folder: Path) -> str:
    started = time.perf_counter()
    list(write_model(folder / "out.gguf", Merge(base, worn, preset, weighed)))
    seconds = time.perf_counter() - started
    again = load_base(folder / "out.gguf")
    damage = returned(measure_damage((base, worn), (again, ()), rows.ids))
    told = check_llama_cpp(Loaded(folder / "out.gguf"), (again, ()), rows.prompts, ANYTHING) if installed() else None
    llama = f"{told.kl:.4f} | {told.agreement:.1%}" if told else "- | -"
    size = (folder / "out.gguf").stat().st_size / 1e6
    return (
        f"| {preset} | {'yes' if weighed else 'no'} | {size:.1f} | {seconds:.1f} | {damage.kl:.5f} |"
        f" {damage.worst_kl:.3f} | {damage.agreement:.1%} | {llama} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", choices=models.PACKAGES)
    parser.add_argument("--only", nargs="*", default=PRESETS, metavar="PRESET")
    parser.add_argument("--rows", type=int, default=12)
    asked = parser.parse_args()
    base = load_base(models.path(asked.model))
    worn = ((strong_adapter(base, AdapterConfig(rank=16, alpha=16.0, use_rslora=True), size=0.15), 1.0),)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "home")
        rows = rows_to_check(store, base, worn, str(SQL / "test.jsonl"), asked.rows)
        learned = rows_to_check(store, base, worn, str(SQL / "train.jsonl"), 4 * asked.rows)
        importance = returned(measure_importance(base, worn, learned.encoded))
        bare = returned(measure_damage((base, worn), (base, ()), rows.ids))
        print(f"without the adapter: KL {bare.kl:.3f}, agreement {bare.agreement:.1%}, {bare.tokens} places\n")
        print("| preset | importance | MB | s | KL | worst | agreement | llama.cpp KL | llama.cpp agreement |")
        print("|---|---|---|---|---|---|---|---|---|")
        for preset in asked.only:
            for weighed in ({}, importance) if preset.startswith(("Q4", "Q5", "Q6")) else ({},):
                print(line(base, worn, preset, weighed, rows, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
