"""``sweep``: several adapters trained at once on one base, each as it would be alone; and ``go_on`` with any run.

Each member keeps its own rows, order, optimiser, log and checkpoints, as a run of its own would; what they share is the
base in memory and the pass over it (``together.py``), and the cache of frozen layers.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.options import parse_values
from nomoat.core.records import Done, Note, Record, quietly
from nomoat.core.store import Store
from nomoat.train import tune
from nomoat.train.beginning import START_AGAIN, differences, refuse_taken_name, run_record
from nomoat.train.checkpoint import KEPT, drop_checkpoints
from nomoat.train.forecast import predict
from nomoat.train.job import Job, prepare
from nomoat.train.options import TuneOptions
from nomoat.train.precision import arithmetic_of, choose_arithmetic, use
from nomoat.train.run import check_same
from nomoat.train.setting import training_setting
from nomoat.train.sweep_options import SweepOptions, members
from nomoat.train.sweep_run import create_sweep, is_sweep, open_sweep
from nomoat.train.sweep_session import run_sweep


def sweep(options: TuneOptions, asked: SweepOptions, store: Store) -> Generator[Record]:
    """Train an adapter for each combination; the last record is ``Done("sweep")`` with a line for each.

    ``keep="best"`` puts the one with the lowest held-out loss into the store under ``options.name``, ``"all"`` puts all
    there under names of their own. Raises what ``tune`` raises.
    """
    wanted = members(options, asked)
    if not options.dry_run:
        for name in [options.name] if asked.keep == "best" else [member.options.name for member in wanted]:
            refuse_taken_name(name, store, replace=options.replace)
    began = datetime.now()
    with training_setting(options.threads) as threads:
        jobs = yield from _prepare([member.options for member in wanted], store)
        if asked.keep == "best" and not jobs[0].held_out:
            raise UsageError("no row is held out, so there is no best adapter", hint="--keep all, or more rows")
        arithmetic = yield from choose_arithmetic(jobs[0])  # of the base, which all share
        plan = (yield from predict(jobs, store, began)) if options.probe_seconds > 0 else None
        if options.dry_run and plan is not None:
            yield Done("plan", None, plan.as_dict())
            return
        records = {
            member.label: run_record(job, plan, job.steps, threads, arithmetic) for member, job in zip(wanted, jobs)
        }
        swept = create_sweep(store, options.name, asked.keep, records)
        yield Note(f"run {swept.id}, {len(jobs)} adapters; if it is stopped, `{swept.resume_command}` goes on")
        yield from run_sweep(swept, jobs, [None] * len(jobs), store)


def go_on(run_id: str, store: Store, given: Mapping[str, Any] | None = None) -> Generator[Record]:
    """Go on with a run, of one adapter or of a sweep, to the bytes that it would have ended with.

    ``given``: options that the user repeated. Raises ``UsageError`` naming what is not as it was.
    """
    if not is_sweep(store, run_id):
        yield from tune.resume(run_id, store, given)
        return
    swept = open_sweep(store, run_id)
    if swept.finished:
        raise UsageError(f"run {run_id} is finished", hint="nomoat ls --kind adapters")
    if set(given or {}) - {"threads"}:
        raise UsageError("a sweep goes on with its own options", hint=swept.resume_command)
    first = swept.runs[0].record
    with training_setting(first.settled.threads):
        yield from differences(first, given or {})
        jobs = yield from _prepare([_options(run.record.options) for run in swept.runs], store)
        use(jobs[0], arithmetic_of(first.settled))
        checkpoints = []
        for run, job in zip(swept.runs, jobs):
            check_same(run.record.made_of, job.made_of, what="data or base", hint=START_AGAIN)
            drop_checkpoints(run.path, keep=KEPT)
            checkpoint, complaints = run.latest()
            for complaint in complaints:
                yield Note(f"passed over a checkpoint: {complaint}", warning=True)
            checkpoints.append(checkpoint)
        steps = [checkpoint.snapshot.state.step for checkpoint in checkpoints if checkpoint is not None]
        yield Note(f"resuming {run_id} after step {min(steps, default=0)}")
        yield from run_sweep(swept, jobs, checkpoints, store)


def _options(values: dict[str, Any]) -> TuneOptions:
    return parse_values(TuneOptions, values)


def _prepare(wanted: Sequence[TuneOptions], store: Store) -> Generator[Record, None, list[Job]]:
    """The members' jobs over one base; what holds for all of them is said once."""
    jobs: list[Job] = []
    for options in wanted:
        preparing = prepare(options, store, jobs[0] if jobs else None)
        jobs.append((yield from (quietly(preparing) if jobs else preparing)))
    return jobs
