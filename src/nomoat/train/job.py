"""Everything a tune needs in memory, made from its options alone, so that a resumed run finds the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from nomoat.core.amounts import counted, rounded
from nomoat.core.bases import resolve_base
from nomoat.core.errors import UsageError
from nomoat.core.files import sha256_file
from nomoat.core.records import Note, Progress, Record
from nomoat.core.store import Store
from nomoat.data.encode import EncodedSet
from nomoat.data.pack import Packed, count_steps
from nomoat.engine.names import Worn, open_base, open_stack, spelled, whole_name, worn_folders
from nomoat.model.adapters import Adapter, AdapterConfig, seed_of
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.dataset import find_or_add
from nomoat.train.distil import TEACHER_FILE, Teacher, taught
from nomoat.train.encoding import encode_splits, hash_rows, rehearsed_rows
from nomoat.train.options import TuneOptions
from nomoat.train.parents import Origin, adapter_origins, base_origin, data_origin, split_hashes
from nomoat.train.prefix import Prefix
from nomoat.train.rehearsal import EarlierSkill, earlier_skills, with_rehearsal
from nomoat.train.reward import PAIR, reward_task
from nomoat.train.sft import SftBatches, sft_task
from nomoat.train.state import Task

_EVAL_SHARE = 0.12  # of the run's work that may go to held-out measurements
_EVALS_PER_EPOCH = 8
_FORWARD_SHARE = 0.4
_MOST_REHEARSED = 4096  # rows of each earlier skill


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """Base, fresh adapter, encoded rows. ``made_of`` is what the result's bytes depend on besides the options.

    ``options`` name the data set by its place in the store, and a base outside of it by its absolute path.
    ``rehearsed`` are general rows, learned among the others. ``under`` is the frozen stack that the adapter learns on
    top of, ``earlier`` what its adapters can do. ``teacher`` is what there is to distil from.
    """

    options: TuneOptions
    base: Base
    adapter: Adapter
    rows: EncodedSet
    held_out: list[Encoded]
    base_origin: Origin
    data_origin: Origin
    made_of: dict[str, Any]
    rehearsed: list[Encoded] = dataclasses.field(default_factory=list)
    under: Worn = ()
    under_origins: tuple[Origin, ...] = ()
    earlier: list[EarlierSkill] = dataclasses.field(default_factory=list)
    teacher: Teacher | None = None

    def batches(self, pack_tokens: int) -> SftBatches:
        """The steps of the run, packed to that many tokens."""
        options = self.options
        return SftBatches(
            self.learned,
            [
                *(f"train.jsonl:{at + 1}" if at >= 0 else f"rehearsed:{-at}" for at in self.rows.sources),
                *(f"general row {number + 1}" for number in range(len(self.rehearsed))),
            ],
            batch_size=options.batch_size,
            pack_tokens=pack_tokens,
            seed=options.seed,
            group=1 if options.method == "sft" else PAIR,
        )

    @property
    def learned(self) -> list[Encoded]:
        """All rows that are learned."""
        return [*self.rows.rows, *self.rehearsed]

    def task(self, batches: SftBatches, prefix: Prefix | None = None, *, probed: bool = False) -> Task[Packed]:
        """What the loop runs; ``probed``, on pieces that need not be whole rows.

        ``prefix`` gives what enters the first layer that learns.
        """
        options, teacher = self.options, self.teacher
        if options.method != "sft":
            alone = options.method == "reward-head"
            return reward_task(self.base, self.adapter, batches, self.held_out, prefix, self.under, head_alone=alone)
        return sft_task(
            self.base,
            self.adapter,
            batches,
            self.held_out,
            options.lora_plus_ratio,
            prefix,
            under=self.under,
            orthogonal=options.orthogonal,
            targets=None if teacher is None else teacher.stand_in if probed else teacher,
        )

    @property
    def frozen_layers(self) -> int:
        """Layers under the first that learns; they need to run once for each row only."""
        return self.adapter.config.first_layer

    def rows_used(self, steps: int) -> list[Encoded]:
        """Training rows that come up in that many steps, and the held-out ones."""
        numbers = self.batches(self.options.pack_tokens).used(steps)
        learned = self.learned
        return [*(learned[number] for number in numbers), *self.held_out]

    @property
    def steps(self) -> int:
        """Optimiser steps that the options ask for."""
        options = self.options
        by_epochs = count_steps(len(self.learned), batch_size=options.batch_size, epochs=options.epochs)
        return options.max_steps or max(1, by_epochs)

    def eval_every(self) -> int:
        """Steps between measurements: as asked, or so that they take about an eighth of the work.

        Counted in tokens, not measured in seconds: a seed must lead to the same checkpoints on every machine.
        """
        if self.options.eval_every or not self.held_out:
            return self.options.eval_every or self.steps
        batches = self.batches(self.options.pack_tokens)
        step_tokens = sum(len(row.ids) for row in batches.rows) / batches.steps_per_epoch
        eval_tokens = _FORWARD_SHARE * sum(len(row.ids) for row in self.held_out)
        affordable = math.ceil(eval_tokens / (_EVAL_SHARE * step_tokens))
        return max(1, affordable, math.ceil(batches.steps_per_epoch / _EVALS_PER_EPOCH))


def prepare(options: TuneOptions, store: Store, beside: Job | None = None) -> Generator[Record, None, Job]:
    """Load the base, encode the rows, make the adapter. A job ``beside`` it on the same base lends what they share."""
    if not options.on:
        resolve_base(store, options.base)
    folder = yield from find_or_add(store, options.data)
    if beside is None:
        yield Progress("opening the base", 0, None)
    base, under = open_under(options, store) if beside is None else (beside.base, beside.under)
    if beside is not None and _encoding(beside.options) == (folder.name, *_encoding(options)[1:]):
        rows, held_out, earlier = beside.rows, beside.held_out, beside.earlier
    else:
        rows, held_out = yield from encode_splits(options, folder, base)
        earlier = _earlier(options, store, base)
        rows = with_rehearsal(rows, earlier, options.rehearse_skills)
    teacher = Teacher(folder, base.decoder.config.vocab_size) if options.distil else None
    if teacher is not None:
        rows, held_out = yield from taught(rows, held_out, teacher, folder)
    rehearsed = rehearsed_rows(options, base)
    config = adapter_config(options, base.decoder.config.n_layers)
    origins = adapter_origins(worn_folders(store, options.on)) if options.on else ()
    adapter = base.new_adapter(config, seed=_seed_over(origins, options.seed), name=options.name)
    of_base = base_origin(store, options.base or base.name, base) if beside is None else beside.base_origin
    made_of = {
        "base": base.fingerprint.exact,
        **split_hashes(folder),
        "tokens": hash_rows([*rows.rows, *rehearsed, *held_out]),
    }
    made_of |= {TEACHER_FILE: sha256_file(folder / TEACHER_FILE)} if teacher is not None else {}
    made_of |= {f"under {origin.parent.name}": origin.parent.sha256 for origin in origins}
    yield Note(_account_of(base, under, adapter, rows, len(rehearsed), len(held_out)))
    on = spelled(whole_name(store, options.on)) if options.on else ""
    named = dataclasses.replace(options, data=folder.name, base=_lasting_name(options.base, base, store), on=on)
    of_data = data_origin(folder)
    return Job(
        named, base, adapter, rows, held_out, of_base, of_data, made_of, rehearsed, under, origins, earlier, teacher
    )


def _seed_over(origins: Sequence[Origin], seed: int) -> int:
    """What an adapter on top of others begins from: with their seed it would read what they read.

    All would draw the same A, and the sum of fifty updates would have the rank of one.
    """
    return seed_of(seed, " ".join(origin.parent.sha256 for origin in origins)) if origins else seed


def open_under(options: TuneOptions, store: Store) -> tuple[Base, Worn]:
    """The base, and the stack it wears while a new adapter learns on top: frozen."""
    if not options.on:
        return open_base(store, options.base), ()
    base, worn = open_stack(store, options.on)
    if not worn:
        raise UsageError(f"--on {options.on!r} wears no adapter", hint=f"--base {options.on}")
    for adapter, _ in worn:
        for parameter in adapter.parameters().values():
            parameter.requires_grad_(False)
    return base, worn


def _earlier(options: TuneOptions, store: Store, base: Base) -> list[EarlierSkill]:
    if not options.on or options.method != "sft":  # a reward model is not asked to answer
        return []
    most = max(options.eval_rows, _MOST_REHEARSED if options.rehearse_skills else 0)
    folders = worn_folders(store, options.on)
    return earlier_skills(store, base, folders, longest=options.max_seq_len, most=most, seed=options.seed)


def _account_of(base: Base, under: Worn, adapter: Adapter, rows: EncodedSet, general: int, held_out: int) -> str:
    worn = "".join(f"+{each.name}" for each, _ in under)
    rehearsed = sum(source < 0 for source in rows.sources)
    return (
        f"{base.name}{worn}, adapter of {rounded(adapter.n_parameters)} parameters, {counted(len(rows.rows), 'row')}"
        + (f" ({rehearsed:,} of them of earlier skills)" if rehearsed else "")
        + (f" and {general:,} general ones" if general else "")
        + f", {held_out:,} held out"
    )


def _encoding(options: TuneOptions) -> tuple[Any, ...]:
    """All that encoded rows depend on besides the base."""
    how = options.over_length, options.loss, options.chat, options.method
    return options.data, options.max_seq_len, *how, options.eval_rows


def _lasting_name(spec: str, base: Base, store: Store) -> str:
    """A name in the store as it is, a path made absolute: what a run writes down must hold in any folder."""
    if not spec:  # the stack brought its base
        return base.name if base.name in (*store.names("bases"), *store.names("models")) else str(base.path)
    return str(base.path) if Path(spec).expanduser().absolute() == base.path else spec


def adapter_config(options: TuneOptions, n_layers: int) -> AdapterConfig:
    """The adapter that the options describe, over a base of that many layers."""
    if options.top_layers > n_layers:
        raise UsageError(f"--top-layers {options.top_layers}: the base has {n_layers} layers")
    ranks = {name: int(rank) for name, rank in (options.rank_pattern or {}).items()}
    return AdapterConfig(
        rank=options.rank,
        alpha=options.effective_alpha,
        target_modules=options.target_modules,
        use_rslora=options.use_rslora,
        use_dora=options.use_dora,
        init=options.init,
        rank_pattern=ranks,
        alpha_pattern=options.alpha_pattern or {},
        first_layer=n_layers - options.top_layers if options.top_layers else 0,
        reward_head=options.method != "sft",
    )
