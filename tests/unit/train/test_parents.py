"""What an adapter is made of."""

from __future__ import annotations

from pathlib import Path

from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.model.load import load_base
from nomoat.train.parents import base_origin, data_origin, derived_licence, model_sha256, split_hashes
from tiny import tiny_folder


def test_the_licence_follows_from_base_and_data() -> None:
    assert derived_licence("Apache-2.0", "CC-BY-4.0") == "Apache-2.0 AND CC-BY-4.0"
    assert derived_licence("MIT", "MIT") == derived_licence("MIT", "") == "MIT"
    assert derived_licence("", "unknown") == "unknown"


def test_a_base_of_the_store_is_known_by_its_record_and_its_aliases(tmp_path: Path) -> None:
    store = Store()
    with store.writing("bases", "tiny") as folder:
        tiny_folder(folder)
        source = Parent("source", "hf:tiny", "ab" * 32)
        write_lineage(folder, Lineage("bases", "tiny", "MIT", (source,), details={"aliases": ["t"]}))
    base = load_base(store.path("bases", "tiny"))
    for spec in ("tiny", "t"):
        origin = base_origin(store, spec, base)
        assert origin.parent == Parent("base", "tiny", "ab" * 32) and origin.licence == "MIT"


def test_a_base_outside_the_store_is_known_by_its_files(tmp_path: Path) -> None:
    one, other = (load_base(tiny_folder(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    hashes = [base_origin(Store(), str(base.path), base).parent.sha256 for base in (one, other)]
    assert hashes[0] == model_sha256(tmp_path / "0") != hashes[1]


def test_the_data_are_known_by_the_rows_that_training_reads(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.jsonl").write_text(f"{name}\n")
    before = data_origin(tmp_path)
    (tmp_path / "test.jsonl").write_text("another\n")
    assert data_origin(tmp_path) == before and set(split_hashes(tmp_path)) == {"train.jsonl", "valid.jsonl"}
    (tmp_path / "valid.jsonl").write_text("another\n")
    assert data_origin(tmp_path).parent.sha256 != before.parent.sha256
