"""Training in less than float32: measured before it is used, the same bytes again, and not used where it fails."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nomoat.core.records import Done, Step
from nomoat.core.store import Store, read_lineage
from nomoat.kernels import int8, int8_native, native
from nomoat.model.linear import Linear
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train import precision
from nomoat.train.job import Job, prepare
from nomoat.train.options import TuneOptions
from nomoat.train.precision import Arithmetic, choose_arithmetic
from nomoat.train.sft import SftBatches
from nomoat.train.tune import resume, tune
from outcome import outcome
from outliers import outlier_folder

TEXTS = ("The harbour at dusk", "Ropes and nets", "A bell far out", "The last boat in")


@pytest.fixture
def options(tmp_path: Path) -> TuneOptions:
    rows = [{"prompt": f"{text} {i}?", "completion": f"{text[::-1]} {i}."} for i in range(6) for text in TEXTS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TuneOptions(
        data=str(tmp_path / "rows.jsonl"),
        base=str(outlier_folder(tmp_path / "base")),
        name="scribe",
        rank=4,
        lr=5e-3,
        precision="int8",
        threads=1,
        probe_seconds=0.0,
    )


def prepared(options: TuneOptions) -> Job:
    job: Job = outcome(prepare(options, Store()))[1]
    return job


def packed(base: Base) -> list[str]:
    """Names of the frozen matrices that training multiplies by in less than float32."""
    linears = [module for module in base.decoder.modules() if isinstance(module, Linear)]
    return [linear.name for linear in linears if linear.weight.for_training() is not None]


def without_treatment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One scale for up to 512 columns, nothing rotated, nothing kept."""
    whole = int8.Recipe
    monkeypatch.setattr(int8, "Recipe", lambda columns, kept, group: whole(columns, kept[:0], group=512, rotated=False))


def test_int8_that_holds_is_used_in_all_layers(options: TuneOptions) -> None:
    job = prepared(options)
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen == Arithmetic("int8") and "int8 holds" in notes[0]
    assert any("down_proj" in name for name in packed(job.base)) and "lm_head" in packed(job.base)


def test_kernels_without_treatment_of_outliers_do_not_pass(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_treatment(monkeypatch)
    job = prepared(options)
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen != Arithmetic("int8")
    assert "stay in float32" in notes[0] or "does not hold" in notes[0]


def test_layers_that_fail_go_back_to_float32_from_the_bottom(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepared(options)
    measured = precision._Gate.measure

    def strict(gate: precision._Gate) -> precision.Agreement:
        low = any(".layers.0." in name for name in packed(job.base))
        return dataclasses.replace(measured(gate), cosine=0.5 if low else 0.999)

    monkeypatch.setattr(precision._Gate, "measure", strict)
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen == Arithmetic("int8", 1, logits=False) and "the logits and layers 0 to 0 stay in float32" in notes[0]
    assert {name.split(".")[2] for name in packed(job.base) if name != "lm_head"} == {"1"}


def test_a_head_whose_copies_would_take_too_much_is_in_int8_for_its_gradient_alone(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision.precision, "HEAD_BYTES", 1000)
    job = prepared(options)
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen == Arithmetic("int8", 0, logits=False) and "the logits stay in float32" in notes[0]
    head = job.base.decoder.lm_head.weight
    back = head.for_gradient()
    assert head.for_training() is None and isinstance(back, int8.PackedInt8)
    assert back.size_bytes < 1.4 * head.shape[0] * head.shape[1]


def test_bfloat16_that_holds_is_used_and_where_the_processor_is_slow_at_it_a_note_says_so(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepared(dataclasses.replace(options, precision="bfloat16"))
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen == Arithmetic("bfloat16") and "bfloat16 holds" in notes[-1]
    monkeypatch.setenv("NOMOAT_KERNELS", "reference")
    notes, again = outcome(choose_arithmetic(job))
    assert again == chosen and "no tiles of bfloat16" in notes[0]


@pytest.mark.parametrize(
    ("tiles", "quick", "memory", "chosen"),
    [
        (True, True, None, "bfloat16"),
        (False, True, None, "int8"),
        (False, True, "1M", "float32"),  # the copies do not fit
        (False, False, None, "float32"),
    ],
)
def test_auto_is_what_the_processor_is_quick_at(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch, tiles: bool, quick: bool, memory: str | None, chosen: str
) -> None:
    job = prepared(dataclasses.replace(options, precision="auto", memory=memory))
    monkeypatch.setattr(native, "has_tiles", lambda: tiles)
    monkeypatch.setattr(int8_native, "makes_quick_steps", lambda: quick)
    assert precision._quickest(job) == chosen


def test_auto_goes_through_the_gate(options: TuneOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMOAT_KERNELS", "portable")
    job = prepared(dataclasses.replace(options, precision="auto"))
    assert outcome(choose_arithmetic(job)) == ([], Arithmetic("float32"))
    monkeypatch.setattr(int8_native, "makes_quick_steps", lambda: True)
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen == Arithmetic("int8") and "int8 holds" in notes[0]


def test_bfloat16_that_does_not_hold_is_not_used(options: TuneOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "COSINE", 1.1)
    job = prepared(dataclasses.replace(options, precision="bfloat16"))
    notes, chosen = outcome(choose_arithmetic(job))
    assert chosen == Arithmetic() and "bfloat16 does not hold" in notes[-1] and not packed(job.base)


@pytest.mark.parametrize("arithmetic", ["int8", "bfloat16"])
def test_a_tune_gives_the_same_bytes_again_and_says_its_arithmetic(options: TuneOptions, arithmetic: str) -> None:
    store, found = Store(), []
    for name in ("one", "two"):
        done = list(tune(dataclasses.replace(options, name=name, precision=arithmetic), store))[-1]
        assert isinstance(done, Done) and done.result["held_out_loss_after"] < done.result["held_out_loss_before"]
        found.append((store.find("adapters", name) / "adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]
    lineage = read_lineage(store.find("adapters", "one"))
    assert lineage is not None and lineage.details["precision"] == arithmetic


def test_a_stopped_run_in_int8_goes_on_to_the_same_bytes(options: TuneOptions) -> None:
    store = Store()
    whole = list(tune(dataclasses.replace(options, name="whole"), store))[-1]
    running = tune(dataclasses.replace(options, name="cut"), store)
    next(record for record in running if isinstance(record, Step))
    running.close()
    cut = list(resume("cut-1", store))[-1]
    assert isinstance(whole, Done) and isinstance(cut, Done) and whole.path and cut.path
    weights = [(path / "adapter_model.safetensors").read_bytes() for path in (whole.path, cut.path)]
    assert weights[0] == weights[1]


def test_the_probe_measures_with_the_copies_in_place(options: TuneOptions) -> None:
    done = list(tune(dataclasses.replace(options, probe_seconds=0.2, dry_run=True), Store()))[-1]
    assert isinstance(done, Done) and done.what == "plan" and done.result["peak_bytes"] > 0


def test_rows_that_teach_one_token_each_are_measured_until_there_are_enough_of_them() -> None:
    letter = [Encoded(list(range(2, 42)), [False] * 39 + [True]) for _ in range(60)]
    batches = SftBatches(letter, [str(i) for i in range(60)], batch_size=8, pack_tokens=2048, seed=0)
    measured = precision.measured_piece(batches)
    assert (measured.learned, len(measured.tokens)) == (16, 640)
