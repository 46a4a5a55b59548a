"""One session of a sweep: the loop over all members with their logs and checkpoints, then table and adapters."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from nomoat.core.errors import Interrupted
from nomoat.core.records import Done, Eval, Note, Progress, Record, Saved, Step
from nomoat.core.store import Lineage, Store, read_lineage
from nomoat.data.pack import Packed
from nomoat.train.artefact import write_artefact
from nomoat.train.checkpoint import Checkpoint, drop_checkpoints
from nomoat.train.job import Job
from nomoat.train.learner import Learner
from nomoat.train.loop import train_together
from nomoat.train.peak import PeakMemory
from nomoat.train.plot import draw_losses
from nomoat.train.prefix import Prefix, drop_cache
from nomoat.train.run import PLOT_FILE
from nomoat.train.session import frozen_prefix, kept_rows, lineage_of, loop_options
from nomoat.train.state import Outcome
from nomoat.train.sweep_run import SweepRun
from nomoat.train.together import joint_gradients


def run_sweep(
    swept: SweepRun, jobs: Sequence[Job], checkpoints: Sequence[Checkpoint | None], store: Store
) -> Generator[Record]:
    """Train all members to their ends and save what is kept; ends with ``Done("sweep")``."""
    try:
        with PeakMemory() as peak:
            steps = [run.record.settled.steps for run in swept.runs]
            rows = [row for job, n in zip(jobs, steps) for row in job.rows_used(n)]
            prefix, prefix_s = yield from frozen_prefix(jobs[0], swept.path, rows)
            outcomes = yield from _train(swept, jobs, checkpoints, prefix)
        lineages = [
            lineage_of(job, run, outcome, peak.peak_bytes, prefix_s)
            for job, run, outcome in zip(jobs, swept.runs, outcomes)
        ]
        result = _result(swept, jobs, outcomes, lineages)
        for place, name in _kept(swept, jobs, result["best"]).items():
            yield Saved(_save(store, swept, jobs[place], lineages[place], place, name), f"adapter {name}")
        swept.finish(result)
        for run in swept.runs:
            drop_checkpoints(run.path)
        del prefix  # a file that is mapped cannot be deleted everywhere
        drop_cache(swept.path)
    except KeyboardInterrupt as stop:
        raise Interrupted("stopped by you", hint=swept.resume_command) from stop
    yield Done("sweep", swept.path, result)


def _train(
    swept: SweepRun, jobs: Sequence[Job], checkpoints: Sequence[Checkpoint | None], prefix: Prefix | None
) -> Generator[Record, None, list[Outcome]]:
    settled = swept.runs[0].record.settled
    tell, pack_tokens = _teller(swept), settled.pack_tokens
    jobs[0].base.decoder.choose_recompute(settled.recompute)
    with contextlib.ExitStack() as logs:
        learners: list[Learner[Packed]] = []
        for label, run, job, checkpoint in zip(swept.labels, swept.runs, jobs, checkpoints):
            log = logs.enter_context(run.logging(checkpoint.log_bytes if checkpoint is not None else 0))
            learners.append(
                Learner(
                    job.task(job.batches(pack_tokens), prefix),
                    loop_options(job.options, run.record.settled),
                    keeper=log,
                    start=checkpoint.snapshot if checkpoint is not None else None,
                    tell=tell(label),
                    name=label,
                )
            )
        adapters = {label: job.adapter for label, job in zip(swept.labels, jobs)}
        gradients = joint_gradients(jobs[0].base, adapters, pack_tokens, prefix)
        return (yield from train_together(learners, gradients))


def _teller(swept: SweepRun) -> Callable[[str], Callable[[Record], Record]]:
    """One bar over the steps of all members; what else a member says comes with its label."""
    total = sum(run.record.settled.steps for run in swept.runs)
    done: dict[str, int] = {}

    def for_member(label: str) -> Callable[[Record], Record]:
        def tell(record: Record) -> Record:
            match record:
                case Step():
                    done[label] = record.step
                    return Progress(f"training {len(swept.runs)} adapters", sum(done.values()), total, "steps")
                case Eval():
                    best = " (best so far)" if record.best else ""
                    return Note(f"{label}, step {record.step}: held-out loss {record.loss:.4f}{best}")
                case Note():
                    return Note(f"{label}: {record.text}", record.warning)
            return record

        return tell

    return for_member


def _result(
    swept: SweepRun, jobs: Sequence[Job], outcomes: Sequence[Outcome], lineages: Sequence[Lineage]
) -> dict[str, Any]:
    """A line for each member in the order asked for; ``best`` is the label with the lowest held-out loss."""
    measured = [(o.state.best_loss, label) for o, label in zip(outcomes, swept.labels) if o.state.best_loss is not None]
    metrics = [lineage.metrics for lineage in lineages]
    tokens = sum(values["tokens"] for values in metrics)
    train_s = max(outcome.state.train_s for outcome in outcomes)
    named = ("held_out_loss_before", "held_out_loss_after", "best_step", "steps", "tokens", "adapter_parameters")
    return {
        "run": swept.id,
        "best": min(measured)[1] if measured and swept.keep == "best" else None,
        "members": [
            {"label": label, "name": job.options.name} | {key: values[key] for key in named}
            for label, job, values in zip(swept.labels, jobs, metrics)
        ],
        "seconds": max(values["seconds"] for values in metrics),
        "tokens_per_second": tokens / train_s if train_s else 0.0,
        "peak_bytes": max(values["peak_bytes"] for values in metrics),
        "predicted": metrics[0]["predicted"],
    }


def _kept(swept: SweepRun, jobs: Sequence[Job], best: str | None) -> dict[int, str]:
    """Which members go into the store, under which name."""
    if best is not None:
        return {swept.labels.index(best): swept.name}
    return {place: job.options.name for place, job in enumerate(jobs)}


def _save(store: Store, swept: SweepRun, job: Job, lineage: Lineage, place: int, name: str) -> Path:
    """Write one adapter, over what a session wrote that was killed just then."""
    run = swept.runs[place]
    there = store.path("adapters", name)
    known = read_lineage(there) if there.exists() else None
    ours = known is not None and known.details.get("run_identity") == run.record.identity
    draw_losses(run.log_path, run.path / PLOT_FILE)
    run.finish(lineage.metrics)
    named = dataclasses.replace(lineage, name=name)
    kept, replace = kept_rows(job, store), job.options.replace or ours
    return write_artefact(store, named, job.adapter, job.base, replace=replace, kept_rows=kept)
