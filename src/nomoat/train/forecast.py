"""From a prepared job to its plan: the probe, the limits of this machine, and the sentences for the user."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime

from nomoat.core.amounts import duration, size
from nomoat.core.machine import disk_free_bytes, memory
from nomoat.core.records import Note, Record
from nomoat.core.store import Store
from nomoat.model.recompute import POLICIES
from nomoat.train.cost import Weights, Work
from nomoat.train.deadline import seconds_until
from nomoat.train.footprint import Footprint
from nomoat.train.job import Job
from nomoat.train.peak import resident_bytes
from nomoat.train.plan import Plan, make_plan
from nomoat.train.prediction import Outline, Way, Wish
from nomoat.train.prefix import DTYPES, Prefix, cached_tokens, computed, row_bytes, seconds_per_token, stand_in
from nomoat.train.probe import Probe, probe
from nomoat.train.sft import outline, probe_samples

_BUSY = 0.1  # other programs' share of the machine that is worth a warning


def predict(jobs: Sequence[Job], store: Store, began: datetime) -> Generator[Record, None, Plan]:
    """Probe this machine with the jobs' own pieces and plan their run; ``began`` is when the user started it.

    Several jobs learn side by side on one base. Raises ``ResourceError`` where it does not fit, with what would.
    """
    job = max(jobs, key=lambda each: each.adapter.n_parameters)
    options, batches = job.options, job.batches(job.options.pack_tokens)
    task = job.task(batches, _probed_prefix(job), probed=True)
    ways = _ways(job, jobs)
    available = memory().available_bytes + resident_bytes()
    measured = yield from probe(
        task.loss,
        task.parameters,
        probe_samples(batches, job.steps),
        ways[0].footprint,
        budget_s=_probe_budget_s(job, began),
        memory_limit_bytes=min(available, options.memory_bytes or available),
    )
    wish = _wish(jobs, store, began, available)
    plan = make_plan(
        wish,
        measured,
        ways,
        lambda pack_tokens: _outline(jobs, pack_tokens),
    )
    yield from _sentences(plan, measured)
    if wish.once_s:
        kept = f"; what they give takes {size(wish.cache_bytes)} of disk until the end" if wish.cache_bytes else ""
        yield Note(f"of it {duration(wish.once_s)} to run the {job.frozen_layers} frozen layers once{kept}")
    return plan


def _outline(jobs: Sequence[Job], pack_tokens: int) -> Outline:
    """What all jobs consist of together; held-out rows as those of a mean job."""
    each = [outline(job.batches(pack_tokens), job.held_out, job.steps, pack_tokens) for job in jobs]
    held_out = sum((one.held_out for one in each), Work())
    return Outline(
        pack_tokens=pack_tokens,
        step=sum((one.step for one in each), Work()),
        sampled=sum(one.sampled for one in each),
        largest_tokens=max(one.largest_tokens for one in each),
        longest_row=max(one.longest_row for one in each),
        held_out=held_out.share(1 / len(jobs)),
    )


def _is_cached(job: Job) -> bool:
    return job.frozen_layers > 0 and job.options.prefix_cache in DTYPES


def _probed_prefix(job: Job) -> Prefix | None:
    """The probe times what is done at every step: with a cache, the layers above it only."""
    if not job.frozen_layers:
        return None
    return (stand_in if _is_cached(job) else computed)(job.base, job.frozen_layers)


def _ways(job: Job, jobs: Sequence[Job]) -> list[Way]:
    """What can be kept or made again, for a job or for several whose pieces run as one."""
    config, frozen = job.base.decoder.config, job.frozen_layers
    layers = {"skipped" if _is_cached(job) else "forward_only": frozen}
    rank = max(each.options.rank for each in jobs)
    return [
        Way(
            policy,
            Weights.of(config, policy, **layers),
            Footprint.of(config, policy, rank=rank, frozen_layers=frozen),
        )
        for policy in POLICIES
    ]


def _once(jobs: Sequence[Job]) -> tuple[float, int]:
    """Seconds to run the frozen layers over all rows of the run, and the bytes that are kept of it."""
    job = jobs[0]
    if not _is_cached(job):
        return 0.0, 0
    sample = probe_samples(job.batches(job.options.pack_tokens), job.steps)[0].piece
    rows = [row for each in jobs for row in each.rows_used(each.steps)]
    tokens = cached_tokens(rows)
    kept = tokens * row_bytes(job.base.decoder.config.d_model, job.options.prefix_cache)
    return tokens * seconds_per_token(job.base, job.frozen_layers, sample), kept


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


def _wish(jobs: Sequence[Job], store: Store, began: datetime, available_bytes: int) -> Wish:
    job = jobs[0]
    options, batches = job.options, job.batches(job.options.pack_tokens)
    once_s, kept_bytes = _once(jobs)
    by = f"to finish by {options.finish_by}" if options.finish_by else f"to take {options.minutes or 0:.3g} min"
    return Wish(
        members=len(jobs),
        steps=sum(each.steps for each in jobs),
        steps_per_epoch=len(jobs) * batches.steps_per_epoch,
        rows=len(batches.rows),
        batch_size=options.batch_size,
        pack_tokens=options.pack_tokens,
        eval_every=job.eval_every(),
        parameter_bytes=sum(4 * each.adapter.n_parameters for each in jobs),
        available_bytes=available_bytes,
        disk_free_bytes=disk_free_bytes(store.home),
        memory_bytes=options.memory_bytes,
        budget_s=_left_s(job, began),
        budget_words=by,
        once_s=once_s,
        cache_bytes=kept_bytes,
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
