"""Learning what a teacher thought: the file, the loss, the run, its resumption, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nomoat.core.errors import DataError, FormatError, NotFound, UsageError
from nomoat.core.records import Step
from nomoat.core.store import Store, read_lineage
from nomoat.data.encode import encode_rows
from nomoat.data.encode_options import EncodeOptions
from nomoat.data.load import load_rows
from nomoat.data.pack import pack
from nomoat.engine.likeliest import likeliest
from nomoat.engine.names import open_stack
from nomoat.model.cache import Layout
from nomoat.model.delta import Stack
from nomoat.model.divergence import next_token_divergences
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.distil import TEACHER_FILE, Teacher, distil_loss, write_targets
from nomoat.train.options import TuneOptions, check
from nomoat.train.sweep_options import SweepOptions, members
from nomoat.train.tune import resume, tune
from outcome import finished
from tiny import tiny_folder

OPTIONS = TuneOptions(
    data="rows", base="small", name="moved", distil=True, rank=4, lr=1e-2, epochs=6.0, batch_size=6, threads=1,
    probe_seconds=0.0, eval_rows=6,
)  # fmt: skip


@pytest.fixture
def store(own_home: Path) -> Store:
    """Two bases with one tokenizer, and rows with what the larger one thinks of them."""
    torch.set_num_threads(1)
    store = Store(own_home)
    tiny_folder(own_home / "bases" / "large", seed=1)
    tiny_folder(own_home / "bases" / "small", seed=2, num_hidden_layers=1)
    with store.writing("data", "rows") as folder:
        for split, start, count in (("train", 0, 24), ("valid", 40, 6), ("test", 60, 2)):
            rows = [{"prompt": f"say {n}", "completion": f"{n} blue"} for n in range(start, start + count)]
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base, _ = open_stack(store, "large")
    rows = encoded(store, base)
    write_targets(store.path("data", "rows") / TEACHER_FILE, rows, thoughts(base, rows))
    return store


def encoded(store: Store, base: Base) -> list[Encoded]:
    rows = [row for split in ("train", "valid") for row in load_rows(store.path("data", "rows"), split)]
    return encode_rows(rows, base.tokenizer, base.template, EncodeOptions()).rows


def thoughts(base: Base, rows: list[Encoded], stack: Stack = (), k: int = 8) -> Iterator:  # type: ignore[type-arg]
    return (target for group in likeliest(base, rows, stack, k=k) for target in group)


def test_the_file_gives_back_what_the_teacher_thought_of_each_row_in_any_piece(store: Store) -> None:
    base, _ = open_stack(store, "large")
    rows = encoded(store, base)
    teacher = Teacher(store.path("data", "rows"), base.decoder.config.vocab_size)
    expected = list(thoughts(base, rows))
    piece = pack([rows[7], rows[2]], 10_000)[0]
    target = teacher(piece)
    torch.testing.assert_close(target.ids, torch.cat([expected[7].ids, expected[2].ids]))
    known = torch.cat([expected[7].logprobs, expected[2].logprobs])
    torch.testing.assert_close(target.logprobs, known, rtol=1e-3, atol=1e-3)
    assert teacher.stand_in(piece).ids.shape == target.ids.shape
    assert not teacher.knows(dataclasses.replace(rows[0], loss_mask=[True] * len(rows[0].ids)))


def test_a_teacher_has_no_divergence_from_itself(store: Store) -> None:
    base, _ = open_stack(store, "large")
    rows = encoded(store, base)[:3]
    teacher = Teacher(store.path("data", "rows"), base.decoder.config.vocab_size)
    piece = pack(rows, 10_000)[0]
    assert distil_loss(base, (), teacher)(piece).item() / piece.learned < 1e-4


def test_a_head_that_learns_has_the_loss_of_one_that_does_not(store: Store) -> None:
    base, _ = open_stack(store, "small")
    options = dataclasses.replace(OPTIONS, target_modules=("lm_head",), epochs=1.0)
    finished(tune(options, store))
    fresh = open_stack(store, "small+moved:0")[1]
    piece = pack(encoded(store, base)[:2], 10_000)[0]
    target = Teacher(store.path("data", "rows"), base.decoder.config.vocab_size)(piece)
    worn, bare = (
        next_token_divergences(base.decoder, piece.tokens, Layout(piece.lengths), piece.loss_mask, target, stack)
        for stack in (((fresh[0][0], 1e-9),), ())
    )
    torch.testing.assert_close(worn, bare, rtol=1e-4, atol=1e-5)


def test_a_student_comes_closer_to_its_teacher_and_the_adapter_says_how(store: Store) -> None:
    done, _ = finished(tune(OPTIONS, store))
    assert done.result["held_out_loss_after"] < 0.8 * done.result["held_out_loss_before"]
    folder = store.find("adapters", "moved")
    lineage = read_lineage(folder)
    assert lineage is not None and lineage.details["loss"] == "divergence from the teacher"
    assert TEACHER_FILE in lineage.details["made_of"]
    assert "Divergence from its teacher on" in (folder / "README.md").read_text()
    base, worn = open_stack(store, "small+moved")
    valid = encoded(store, base)[24:]
    piece = pack(valid, 10_000)[0]
    teacher = Teacher(store.path("data", "rows"), base.decoder.config.vocab_size)
    measured = distil_loss(base, worn, teacher)(piece).item() / piece.learned
    assert measured == pytest.approx(done.result["held_out_loss_after"], abs=1e-4)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(store: Store) -> None:
    finished(tune(OPTIONS, store))
    whole = (store.find("adapters", "moved") / "adapter_model.safetensors").read_bytes()
    cut = tune(dataclasses.replace(OPTIONS, name="again"), store)
    for record in cut:
        if isinstance(record, Step) and record.step == 5:
            cut.close()
            break
    finished(resume("again-1", store))
    assert (store.find("adapters", "again") / "adapter_model.safetensors").read_bytes() == whole


def test_the_time_of_a_run_is_predicted_without_the_teachers_rows(store: Store) -> None:
    done, _ = finished(tune(dataclasses.replace(OPTIONS, dry_run=True, probe_seconds=0.5, max_steps=4), store))
    assert done.what == "plan" and done.result["steps"] == 4


def test_rows_without_a_teacher_are_refused(store: Store) -> None:
    path = store.path("data", "rows") / TEACHER_FILE
    tensors = load_file(path)
    save_file({**tensors, "keys": torch.zeros_like(tensors["keys"])}, path)
    with pytest.raises(DataError, match="has seen none"):
        finished(tune(OPTIONS, store))
    path.unlink()
    with pytest.raises(NotFound, match="without a teacher"):
        finished(tune(OPTIONS, store))


def test_damaged_probabilities_are_refused(store: Store) -> None:
    path = store.path("data", "rows") / TEACHER_FILE
    good = load_file(path)
    damages = {
        "ids": good["ids"] + 100_000,
        "logprobs": good["logprobs"] + 20,
        "starts": good["starts"].flip(0),
        "keys": good["keys"][:-1],
    }
    for name, tensor in damages.items():
        save_file({**good, name: tensor.contiguous()}, path)
        with pytest.raises(FormatError):
            Teacher(path.parent, 259)
    save_file({**good, "logprobs": torch.full_like(good["logprobs"], torch.nan)}, path)
    with pytest.raises(FormatError):
        Teacher(path.parent, 259)
    path.write_bytes(b"not a file")
    with pytest.raises(FormatError):
        Teacher(path.parent, 259)


def test_what_has_no_teacher_cannot_be_distilled() -> None:
    for changes in ({"rehearse": 4}, {"loss": "all"}):
        with pytest.raises(UsageError, match="--distil"):
            check(dataclasses.replace(OPTIONS, **changes))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="probabilities"):
        members(OPTIONS, SweepOptions("lr=1e-3,1e-2"))
