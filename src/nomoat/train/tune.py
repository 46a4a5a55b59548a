"""``tune``: data and a base to an adapter, as a generator of records; ``resume``: a run that was cut short."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any

from nomoat.core.errors import UsageError
from nomoat.core.options import parse_values
from nomoat.core.records import Done, Note, Record
from nomoat.core.store import Store, read_lineage
from nomoat.train.beginning import START_AGAIN, differences, refuse_other_options, refuse_taken_name, run_record
from nomoat.train.checkpoint import KEPT, drop_checkpoints
from nomoat.train.forecast import predict
from nomoat.train.job import prepare
from nomoat.train.options import TuneOptions, check
from nomoat.train.precision import arithmetic_of, choose_arithmetic, use
from nomoat.train.run import Run, check_same, create_run, open_run
from nomoat.train.session import run_session
from nomoat.train.setting import training_setting


def tune(options: TuneOptions, store: Store) -> Generator[Record]:
    """Train an adapter and put it into the store; the last record is ``Done("adapter")`` with its metrics.

    With ``dry_run`` it ends with ``Done("plan")``. Closing the generator, or Ctrl-C, leaves a run that ``resume``
    goes on with. Raises ``UsageError``, ``NotFound``, ``DataError``, ``ResourceError``, ``StorageError``,
    ``NumericError``, ``Interrupted``.
    """
    check(options)
    if not options.dry_run:
        refuse_taken_name(options.name, store, replace=options.replace)
    began = datetime.now()
    with training_setting(options.threads) as threads:
        job = yield from prepare(options, store)
        arithmetic = yield from choose_arithmetic(job)
        plan = None
        if options.probe_seconds > 0:
            plan = yield from predict([job], store, began)
        if options.dry_run and plan is not None:
            yield Done("plan", None, plan.as_dict())
            return
        steps = plan.steps if plan is not None else job.steps
        run = create_run(store, options.name, run_record(job, plan, steps, threads, arithmetic))
        yield Note(f"run {run.id}; if it is stopped, `{run.resume_command}` goes on")
        yield from run_session(job, run, store, None)


def resume(run_id: str, store: Store, given: Mapping[str, Any] | None = None) -> Generator[Record]:
    """Go on with a run to the bytes that it would have ended with. ``given``: options that the user repeated.

    Raises ``UsageError`` naming what differs when options, data or base are not those of the run.
    """
    run = open_run(store, run_id)
    options = parse_values(TuneOptions, run.record.options, where=str(run.path))
    _refuse_finished(run, options, store)
    refuse_other_options(options, given or {})
    settled = run.record.settled
    with training_setting(settled.threads):
        yield from differences(run.record, given or {})
        job = yield from prepare(options, store)
        check_same(run.record.made_of, job.made_of, what="data or base", hint=START_AGAIN)
        use(job, arithmetic_of(settled))
        drop_checkpoints(run.path, keep=KEPT)
        checkpoint, complaints = run.latest()
        for complaint in complaints:
            yield Note(f"passed over a checkpoint: {complaint}", warning=True)
        step = checkpoint.snapshot.state.step if checkpoint is not None else 0
        yield Note(f"resuming {run.id} after step {step} of {settled.steps}")
        yield from run_session(job, run, store, checkpoint)


def _refuse_finished(run: Run, options: TuneOptions, store: Store) -> None:
    lineage = read_lineage(store.path("adapters", options.name))
    saved = lineage is not None and lineage.details.get("run_identity") == run.record.identity
    if run.finished or saved:
        raise UsageError(
            f"run {run.id} is finished; its adapter is {options.name!r}", hint=f"nomoat show adapters/{options.name}"
        )
