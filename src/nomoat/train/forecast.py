"""From a prepared job to its plan: the probe, the limits of this machine, and the sentences for the user."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime

from nomoat.core.amounts import duration, size
from nomoat.core.machine import disk_free_bytes, memory
from nomoat.core.records import Note, Record
from nomoat.core.store import Store
from nomoat.train.cost import Weights
from nomoat.train.deadline import seconds_until
from nomoat.train.job import Job
from nomoat.train.peak import resident_bytes
from nomoat.train.plan import Plan, Wish, make_plan
from nomoat.train.probe import Probe, probe
from nomoat.train.sft import outline, probe_samples

_BUSY = 0.1  # other programs' share of the machine that is worth a warning


def predict(job: Job, store: Store, began: datetime) -> Generator[Record, None, Plan]:
    """Probe this machine with the job's own pieces and plan the run; ``began`` is when the user started it.

    Raises ``ResourceError`` where it does not fit, with what would.
    """
    options, batches = job.options, job.batches(job.options.pack_tokens)
    task = job.task(batches)
    available = memory().available_bytes + resident_bytes()
    measured = yield from probe(
        task.loss,
        task.parameters,
        probe_samples(batches, job.steps),
        budget_s=_probe_budget_s(job, began),
        memory_limit_bytes=min(available, options.memory_bytes or available),
    )
    wish = _wish(job, store, began, available)
    plan = make_plan(
        wish,
        measured,
        Weights.of(job.base.decoder.config),
        lambda pack_tokens: outline(batches, job.held_out, job.steps, pack_tokens),
    )
    yield from _sentences(plan, measured)
    return plan


def _probe_budget_s(job: Job, began: datetime) -> float:
    """The probe never takes more than a tenth of a short time budget."""
    left_s = _left_s(job, began)
    return job.options.probe_seconds if left_s is None else min(job.options.probe_seconds, left_s / 10)


def _left_s(job: Job, began: datetime) -> float | None:
    now, options = datetime.now(), job.options
    if options.minutes is not None:
        return options.minutes * 60 - (now - began).total_seconds()
    if options.finish_by is not None:
        # From the beginning, so that a time which passes while the base loads is not taken for tomorrow's.
        return seconds_until(options.finish_by, began) - (now - began).total_seconds()
    return None


def _wish(job: Job, store: Store, began: datetime, available_bytes: int) -> Wish:
    options, batches = job.options, job.batches(job.options.pack_tokens)
    by = f"to finish by {options.finish_by}" if options.finish_by else f"to take {options.minutes or 0:.3g} min"
    return Wish(
        steps=job.steps,
        steps_per_epoch=batches.steps_per_epoch,
        rows=len(batches.rows),
        batch_size=options.batch_size,
        pack_tokens=options.pack_tokens,
        eval_every=job.eval_every(),
        parameter_bytes=4 * job.adapter.n_parameters,
        available_bytes=available_bytes,
        disk_free_bytes=disk_free_bytes(store.home),
        memory_bytes=options.memory_bytes,
        budget_s=_left_s(job, began),
        budget_words=by,
    )


def _sentences(plan: Plan, measured: Probe) -> Generator[Record]:
    yield Note(
        f"prediction: {duration(plan.seconds)} of training ({duration(plan.low_s)} to {duration(plan.high_s)} in "
        f"eight cases of ten), {size(plan.peak_bytes)} of memory, {size(plan.disk_bytes)} of disk; "
        f"{plan.steps} steps, {plan.tokens:,} tokens at {plan.tokens_per_second:.0f} a second"
    )
    if measured.busy > _BUSY:
        yield Note(
            f"other programs take {measured.busy:.0%} of this machine; the prediction holds as long as they do",
            warning=True,
        )
    for loss in plan.gave_up:
        yield Note(f"to fit: {loss}", warning=True)
