"""One session of a run: the loop with its log and checkpoints, then the adapter in the store."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from nomoat.core.errors import Interrupted
from nomoat.core.records import Done, Note, Progress, Record, Saved
from nomoat.core.store import Lineage, Store
from nomoat.data.general import LICENCE
from nomoat.engine.score import loss
from nomoat.model.template import Encoded
from nomoat.train.artefact import write_artefact
from nomoat.train.checkpoint import Checkpoint, drop_checkpoints
from nomoat.train.job import Job
from nomoat.train.loop import LoopOptions, train
from nomoat.train.options import TuneOptions
from nomoat.train.parents import derived_licence
from nomoat.train.peak import PeakMemory
from nomoat.train.plot import draw_losses
from nomoat.train.precision import arithmetic_of
from nomoat.train.prefix import DTYPES, Prefix, PrefixCache, computed, drop_cache
from nomoat.train.rehearsal import reservoir
from nomoat.train.run import PLOT_FILE, Run, Settled
from nomoat.train.sft import learned_tokens
from nomoat.train.state import Outcome


def run_session(job: Job, run: Run, store: Store, checkpoint: Checkpoint | None) -> Generator[Record]:
    """Train to the end and save; ends with ``Done("adapter")``. ``checkpoint``: where an earlier session stopped."""
    try:
        with PeakMemory() as peak:
            rows = job.rows_used(run.record.settled.steps)
            prefix, prefix_s = yield from frozen_prefix(job, run.path, rows)
            outcome = yield from _train(job, run, checkpoint, prefix)
        yield from remarks(outcome)
        lineage = lineage_of(job, run, outcome, peak.peak_bytes, prefix_s)
        draw_losses(run.log_path, run.path / PLOT_FILE)
        if job.earlier:
            lineage.metrics["skills"] = yield from earlier_losses(job)
        kept = kept_rows(job, store)
        path = write_artefact(store, lineage, job.adapter, job.base, replace=job.options.replace, kept_rows=kept)
        run.finish(lineage.metrics)
        drop_checkpoints(run.path)
        del prefix  # a file that is mapped cannot be deleted everywhere
        drop_cache(run.path)
    except KeyboardInterrupt as stop:
        raise Interrupted("stopped by you", hint=run.resume_command) from stop
    yield Saved(path, "adapter")
    yield Done("adapter", path, {"name": job.options.name, "run": run.id, **lineage.metrics})


def earlier_losses(job: Job) -> Generator[Record, None, dict[str, Any]]:
    """Held-out losses of the earlier skills, in nats a token, without the new adapter and with it."""
    found: dict[str, Any] = {}
    for done, skill in enumerate(job.earlier, start=1):
        if skill.valid:
            before = loss(job.base, skill.valid, job.under)[0]
            after = loss(job.base, skill.valid, (*job.under, (job.adapter, 1.0)))[0]
            found[skill.data] = {"adapter": skill.adapter, "before": before, "after": after}
        yield Progress("measuring earlier skills", done, len(job.earlier), "skills")
    worse = [f"{data} ({each['before']:.4f} to {each['after']:.4f})" for data, each in found.items()
             if each["after"] > 1.02 * each["before"]]  # fmt: skip
    if worse:
        yield Note(f"earlier skills lost: {', '.join(worse)}; --rehearse-skills 0.2 practises them again", warning=True)
    return found


def kept_rows(job: Job, store: Store) -> str:
    """The training rows that stay with the adapter, as JSON lines; empty where none are asked for."""
    if not job.options.keep_rows:
        return ""
    data = store.path("data", job.options.data)
    return reservoir(data, job.options.keep_rows, licence=job.data_origin.licence, seed=job.options.seed)


def frozen_prefix(
    job: Job, run_folder: Path, rows: list[Encoded]
) -> Generator[Record, None, tuple[Prefix | None, float]]:
    """What gives the output of the layers under the adapter, if it leaves some out, and the seconds spent on it."""
    layer, kind = job.frozen_layers, job.options.prefix_cache
    if not layer:
        return None, 0.0
    if kind not in DTYPES:
        return computed(job.base, layer), 0.0
    cache = PrefixCache(run_folder, job.base, layer, kind, rows)
    yield from cache.fill()
    return cache, cache.seconds


def _train(
    job: Job, run: Run, checkpoint: Checkpoint | None, prefix: Prefix | None
) -> Generator[Record, None, Outcome]:
    settled = run.record.settled
    job.base.decoder.choose_recompute(settled.recompute)
    task = job.task(job.batches(settled.pack_tokens), prefix)
    start = checkpoint.snapshot if checkpoint is not None else None
    with run.logging(checkpoint.log_bytes if checkpoint is not None else 0) as log:
        return (yield from train(task, loop_options(job.options, settled), keeper=log, start=start))


def loop_options(options: TuneOptions, settled: Settled) -> LoopOptions:
    """What the loop needs of a run."""
    return LoopOptions(
        steps=settled.steps,
        lr=options.lr,
        schedule=options.schedule,
        warmup=options.warmup,
        weight_decay=options.weight_decay,
        clip=options.clip,
        eval_every=settled.eval_every,
        patience=options.patience,
    )


def remarks(outcome: Outcome) -> Generator[Note]:
    """What there is to say about how a run ended."""
    state = outcome.state
    if state.best_loss is None or state.before_loss is None:
        return
    if state.best_loss >= state.before_loss:
        yield Note(
            f"the held-out loss did not go down ({state.before_loss:.4f} before, {state.best_loss:.4f} at best): "
            "the adapter has learned nothing that carries over to new rows",
            warning=True,
        )
    elif state.best_step < state.step:
        yield Note(f"the adapter is that of step {state.best_step}, the best on held-out rows")


def lineage_of(job: Job, run: Run, outcome: Outcome, peak_bytes: int, prefix_s: float) -> Lineage:
    """The record of the finished adapter."""
    under = job.under_origins
    return Lineage(
        kind="adapters",
        name=job.options.name,
        licence=derived_licence(job.base_origin.licence, job.data_origin.licence, *(each.licence for each in under)),
        parents=(job.base_origin.parent, job.data_origin.parent, *(each.parent for each in under)),
        options=run.record.options,
        metrics=_metrics(job, run, outcome, peak_bytes, prefix_s),
        details={
            "run": run.id,
            "run_identity": run.record.identity,
            "made_of": run.record.made_of,
            "versions": run.record.versions,
            "chat_template": job.base.template.kind,
            "rehearsed": {"rows": len(job.rehearsed), "licence": LICENCE} if job.rehearsed else None,
            "precision": str(arithmetic_of(run.record.settled)),
            "loss": _loss_of(job),
        },
        seed=job.options.seed,
    )


def _loss_of(job: Job) -> str:
    """What was minimised, in words."""
    if job.options.method != "sft":
        return "Bradley and Terry's, on pairs of answers"
    return "divergence from the teacher" if job.teacher is not None else "cross entropy"


def _metrics(job: Job, run: Run, outcome: Outcome, peak_bytes: int, prefix_s: float) -> dict[str, Any]:
    state, plan = outcome.state, run.record.plan
    named = ("seconds", "low_s", "high_s", "tokens_per_second", "peak_bytes", "disk_bytes", "gave_up")
    return {
        "held_out_loss_before": state.before_loss,
        "held_out_loss_after": state.best_loss,
        "held_out_tokens": sum(map(learned_tokens, job.held_out)),
        "steps": state.step,
        "planned_steps": run.record.settled.steps,
        "best_step": state.best_step if state.best_loss is not None else state.step,
        "stopped_early": outcome.stopped_early,
        "rows": len(job.rows.rows),
        "tokens": state.tokens,
        "tokens_per_second": state.tokens / state.train_s if state.train_s else 0.0,
        "seconds": state.elapsed_s + prefix_s,
        "prefix_seconds": prefix_s,
        "cpu_seconds": state.cpu_s,
        "peak_bytes": peak_bytes,
        "threads": run.record.settled.threads,
        "adapter_parameters": job.adapter.n_parameters,
        "predicted": {key: plan[key] for key in named} if plan is not None else None,
    }
