"""nomoat's own loop on the job's rows in the job's order."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from job import Job, report
from safetensors.torch import load_file

from nomoat.core.records import Step
from nomoat.data.pack import Packed, pack
from nomoat.model.adapter_files import save_adapter
from nomoat.model.adapters import AdapterConfig
from nomoat.model.load import load_base
from nomoat.model.template import Encoded
from nomoat.train.loop import LoopOptions, train
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


def main() -> None:
    job = Job.read()
    torch.set_num_threads(job.threads)
    base = load_base(Path(job.gguf), name="bench")
    adapter = base.new_adapter(AdapterConfig(rank=job.rank, alpha=job.alpha), seed=0, name="bench")
    start = load_file(job.start_tensors)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            parameter.copy_(start[name])
    task = sft_task(base, adapter, GivenSteps(job), [encoded(row) for row in job.held_out], 1.0)  # type: ignore[arg-type]
    assert task.evaluate is not None
    before = task.evaluate().loss
    options = LoopOptions(steps=len(job.steps), lr=job.lr, warmup=job.warmup, eval_every=len(job.steps) + 1)
    seconds, last = [], time.perf_counter()
    quiet = sft_task(base, adapter, GivenSteps(job), [], 1.0)  # type: ignore[arg-type]
    for record in train(quiet, options):
        if isinstance(record, Step):
            now = time.perf_counter()
            seconds.append(now - last)
            last = now
    after = task.evaluate().loss
    if job.adapter_folder:
        Path(job.adapter_folder).mkdir(parents=True, exist_ok=True)
        save_adapter(adapter, Path(job.adapter_folder))
    report(peer="nomoat", before=before, after=after, seconds=seconds, tokens=job.real_tokens())


main()
