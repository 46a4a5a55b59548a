"""nomoat's own loop on the job's rows in the job's order."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import torch
from job import Job, report
from safetensors.torch import load_file

from nomoat.core.records import Step
from nomoat.core.store import Parent
from nomoat.data.encode import EncodedSet
from nomoat.data.pack import Packed, pack
from nomoat.data.report import histogram
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import Adapter, AdapterConfig
from nomoat.model.load import Base, load_base
from nomoat.model.template import Encoded
from nomoat.train.job import Job as TuneJob
from nomoat.train.loop import LoopOptions, train
from nomoat.train.options import TuneOptions
from nomoat.train.parents import Origin
from nomoat.train.sft import sft_task, work_of
from nomoat.train.state import Cursor, StepBatch


class GivenSteps:
    """The job's steps, in its order. The cursor's position counts steps."""

    def __init__(self, job: Job) -> None:
        self.rows = [encoded(row) for row in job.train]
        self.steps, self.pack_tokens = job.steps, job.pack_tokens

    def take(self, cursor: Cursor) -> tuple[StepBatch[Packed], Cursor]:
        numbers = self.steps[cursor.position]
        pieces = pack([self.rows[number] for number in numbers], self.pack_tokens)
        works = [work_of(piece) for piece in pieces]
        count, tokens = sum(work.learned for work in works), sum(work.tokens for work in works)
        batch = StepBatch(pieces, count, tokens, tuple(map(str, numbers)))
        return batch, Cursor(0, cursor.position + 1)


def encoded(row: dict[str, Any]) -> Encoded:
    return Encoded(row["ids"], row["loss_mask"])


def settle(job: Job, base: Base, adapter: Adapter, rows: list[Encoded]) -> float:
    """Choose the arithmetic as ``nomoat tune --precision`` does, its gate included; seconds that it takes."""
    if job.precision == "float32":
        return 0.0
    from nomoat.train.precision import choose_arithmetic

    began = time.perf_counter()
    options = TuneOptions(data="bench", base="bench", name="bench", rank=job.rank, precision=job.precision)
    origin = Origin(Parent("base", "bench", ""), "")
    encoded = EncodedSet(rows, list(range(len(rows))), {}, 0, 0, histogram([]))
    for record in choose_arithmetic(TuneJob(options, base, adapter, encoded, [], origin, origin, {})):
        print(record, file=sys.stderr)
    return time.perf_counter() - began


def main() -> None:
    job = Job.read()
    torch.set_num_threads(job.threads)
    base = load_base(Path(job.gguf), name="bench")
    adapter = base.new_adapter(AdapterConfig(rank=job.rank, alpha=job.alpha), seed=0, name="bench")
    start = load_file(job.start_tensors)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            parameter.copy_(start[name])
    steps = GivenSteps(job)
    set_up_s = settle(job, base, adapter, steps.rows)
    task = sft_task(base, adapter, steps, [encoded(row) for row in job.held_out], 1.0)  # type: ignore[arg-type]
    assert task.evaluate is not None
    before = task.evaluate().loss
    options = LoopOptions(steps=len(job.steps), lr=job.lr, warmup=job.warmup)
    seconds, curve = list[float](), list[tuple[float, float]]()
    last = time.perf_counter()
    for record in train(dataclasses.replace(task, evaluate=None), options):
        if isinstance(record, Step):
            seconds.append(time.perf_counter() - last)
            if job.eval_due(record.step):
                curve.append((set_up_s + sum(seconds), task.evaluate().loss))
            last = time.perf_counter()
    if job.adapter_folder:
        Path(job.adapter_folder).mkdir(parents=True, exist_ok=True)
        save_adapter(adapter, Path(job.adapter_folder))
    report(
        peer="nomoat",
        before=before,
        after=curve[-1][1],
        set_up_s=set_up_s,
        seconds=seconds,
        step_tokens=job.step_tokens(),
        curve=curve,
    )


main()
