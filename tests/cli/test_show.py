"""``nomoat show``: one artefact, or a model file, described."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loopback import gguf_bytes
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from terminal import nomoat


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes())
    return path


def facts(out: str) -> dict[str, str]:
    return {line[:13].strip(): line[13:].strip() for line in out.splitlines() if line[:1].strip()}


def test_a_base_shows_its_licence_its_source_and_its_own_header(model: Path) -> None:
    nomoat("pull", str(model), "--name", "tiny", "--copy")
    shown = nomoat("show", "tiny").out
    assert "Apache-2.0" in shown and f"source {model}" in shown
    assert "architecture" in shown and "llama" in shown
    assert "context" in shown and "2,048 tokens" in shown
    assert "none: nomoat's default is used" in shown


def test_a_linked_base_whose_file_is_gone_can_still_be_shown(model: Path) -> None:
    nomoat("pull", str(model), "--name", "tiny")
    model.unlink()
    ran = nomoat("show", "tiny")
    assert ran.code == 0 and "(gone or changed)" in ran.out


def test_an_adapter_shows_rank_parents_and_metrics(own_home: Path) -> None:
    with Store(own_home).writing("adapters", "scribe") as folder:
        (folder / "adapter_config.json").write_text(json.dumps({"r": 16, "peft_type": "LORA", "lora_alpha": 32}))
        parents = (Parent("bases", "tiny", "ab" * 32),)
        metrics = {"held_out_loss": 0.123456789}
        write_lineage(folder, Lineage("adapters", "scribe", "MIT", parents, {"rank": 16}, metrics, seed=7))
    shown = nomoat("show", "scribe").out
    for words in ("bases tiny  sha256 abababababab", "r = 16", "held_out_loss = 0.123457", "seed", "MIT"):
        assert words in shown


def test_a_damaged_adapter_config_is_said_not_raised(own_home: Path) -> None:
    with Store(own_home).writing("adapters", "torn") as folder:
        (folder / "adapter_config.json").write_text("{")
    assert "damaged" in nomoat("show", "torn").out


def test_a_path_to_a_model_is_described_without_pulling_it(model: Path, own_home: Path) -> None:
    ran = nomoat("show", str(model))
    assert ran.code == 0 and "llama" in ran.out
    assert not own_home.exists()


def test_json_is_one_record_with_lineage_and_model(model: Path) -> None:
    nomoat("pull", str(model), "--name", "tiny")
    (record,) = nomoat("show", "tiny", "--json").records
    assert record["model"]["architecture"] == "llama" and record["model"]["parameters"] == 256 * 292
    assert record["details"]["path"] == str(model) and record["made_from_it"] == []


def test_nothing_of_that_name_is_not_found() -> None:
    assert nomoat("show", "nobody").code == 3
