"""The Python API: each stage run to its end, its result returned as plain values.

``show`` is called with every record on the way (``core.records``); the stages themselves are generators in their
rooms, for whoever wants to drive them. ``store`` is ``Store()``, the home that ``NOMOAT_HOME`` names, by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nomoat.core.errors import NomoatError as NomoatError
from nomoat.core.records import Done, Record
from nomoat.core.store import Store
from nomoat.data.add import AddOptions as AddOptions
from nomoat.data.add import add as _add
from nomoat.engine.generate import Engine, Request
from nomoat.engine.names import open_stack
from nomoat.engine.sampling import Sampling as Sampling
from nomoat.evening import EveningOptions as EveningOptions
from nomoat.evening import evening as _evening
from nomoat.evening import resume_evening as _resume_evening
from nomoat.export.job import export as _export
from nomoat.export.options import ExportOptions as ExportOptions
from nomoat.hub.pull import pull as _pull
from nomoat.hub.sources import PullOptions as PullOptions
from nomoat.judge.compare import judge as _judge
from nomoat.judge.duel import duel as _duel
from nomoat.judge.examine import examine as _examine
from nomoat.judge.grade import grade as _grade
from nomoat.judge.options import JudgeOptions as JudgeOptions
from nomoat.judge.options import TaskOptions as TaskOptions
from nomoat.judge.rank import rank as _rank
from nomoat.judge.school import school as _school
from nomoat.judge.tasks import run_tasks as _run_tasks
from nomoat.judge.verdict_options import DuelOptions as DuelOptions
from nomoat.judge.verdict_options import ExamOptions as ExamOptions
from nomoat.judge.verdict_options import GradeOptions as GradeOptions
from nomoat.judge.verdict_options import RankOptions as RankOptions
from nomoat.judge.verdict_options import SchoolOptions as SchoolOptions
from nomoat.model.template import prompt_ids
from nomoat.move.job import move as _move
from nomoat.move.options import MoveOptions as MoveOptions
from nomoat.stack.extract import extract as _extract
from nomoat.stack.job import open_parts
from nomoat.stack.job import stack as _combine
from nomoat.stack.merge import merge as _merge
from nomoat.stack.options import CombineOptions as CombineOptions
from nomoat.stack.unmerge import unmerge as _unmerge
from nomoat.train.options import TuneOptions as TuneOptions
from nomoat.train.sweep import go_on as _go_on
from nomoat.train.sweep import sweep as _sweep
from nomoat.train.sweep_options import SweepOptions as SweepOptions
from nomoat.train.tune import tune as _tune

Show = Callable[[Record], None]


def evening(options: EveningOptions | None = None, *, show: Show | None = None, store: Store | None = None) -> Any:
    """The whole way. Returns verdict, model name, figures and the receipt's path."""
    return _finish(_evening(options or EveningOptions(), store or Store()), show)


def resume_evening(
    name: str = "",
    *,
    minutes: float | None = None,
    finish_by: str | None = None,
    show: Show | None = None,
    store: Store | None = None,
) -> Any:
    """Go on with an evening that was stopped: the one that makes ``name``, or the latest; with another end if given."""
    return _finish(_resume_evening(name, store or Store(), minutes=minutes, finish_by=finish_by), show)


def pull(spec: str, options: PullOptions | None = None, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Fetch a base. Returns its name, path, licence, source and hash."""
    return _finish(_pull(spec, options or PullOptions(), store or Store()), show)


def add_data(options: AddOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Turn files into a data set. Returns the report of what was kept and dropped."""
    return _finish(_add(options, store or Store()), show)


def tune(options: TuneOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Train an adapter, or predict what it would cost with ``dry_run``. Returns the metrics or the plan."""
    return _finish(_tune(options, store or Store()), show)


def sweep(options: TuneOptions, asked: SweepOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Train several adapters at once on one base. Returns a line for each, and which was best."""
    return _finish(_sweep(options, asked, store or Store()), show)


def resume(run: str, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Go on with a run that was stopped. Returns the metrics."""
    return _finish(_go_on(run, store or Store()), show)


def combine(
    adapters: Sequence[str],
    name: str,
    options: CombineOptions | None = None,
    *,
    replace: bool = False,
    show: Show | None = None,
    store: Store | None = None,
) -> Any:
    """Make one adapter of several (``["a", "b:0.5"]``). Returns ranks, kept energy and licence."""
    home = store or Store()
    records = _combine(open_parts(home, adapters), options or CombineOptions(), home, name=name, replace=replace)
    return _finish(records, show)


def merge(model: str, name: str, *, replace: bool = False, show: Show | None = None, store: Store | None = None) -> Any:
    """Fold a stack into its base. Returns the new model and what rounding cost."""
    return _finish(_merge(model, store or Store(), name=name, replace=replace), show)


def unmerge(
    model: str, name: str, *, replace: bool = False, show: Show | None = None, store: Store | None = None
) -> Any:
    """Take the adapters out of a merged model. Returns the model and whether it is the base to the bit."""
    return _finish(_unmerge(model, store or Store(), name=name, replace=replace), show)


def extract(
    tuned: str,
    base: str,
    name: str,
    *,
    rank: int = 32,
    replace: bool = False,
    show: Show | None = None,
    store: Store | None = None,
) -> Any:
    """A tuned model as an adapter of ``rank`` over its base. Returns ranks and kept energy."""
    return _finish(_extract(tuned, base, store or Store(), rank=rank, name=name, replace=replace), show)


def judge(options: JudgeOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Compare before and after on the same rows. Returns the whole result."""
    return _finish(_judge(options, store or Store()), show)


def exam(options: ExamOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Examine a judge on labelled pairs and planted attacks. Returns its parts and whether it passed."""
    return _finish(_examine(options, store or Store()), show)


def run_tasks(options: TaskOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Tasks of lm-evaluation-harness on one model or two. Returns a line for every metric."""
    return _finish(_run_tasks(options, store or Store()), show)


def grade(options: GradeOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Rate a model's answers by a rubric. Returns mean ratings, or why they are withheld."""
    return _finish(_grade(options, store or Store()), show)


def rank(options: RankOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Rate many models by a judge or by given judgments. Returns ratings with intervals."""
    return _finish(_rank(options, store or Store()), show)


def school(options: SchoolOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Teach a judge labelled pairs or votes. Returns its exam before and after."""
    return _finish(_school(options, store or Store()), show)


def duel(options: DuelOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Two models on the same questions before a judge. Returns the win rates, or why they are withheld."""
    return _finish(_duel(options, store or Store()), show)


def export(options: ExportOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Take a stack to GGUF, PEFT, Hugging Face or Ollama. Returns the parity receipt."""
    return _finish(_export(options, store or Store()), show)


def move(options: MoveOptions, *, show: Show | None = None, store: Store | None = None) -> Any:
    """Take a stack's skills to another base. Returns the retention table and whether every skill passed."""
    return _finish(_move(options, store or Store()), show)


def answer(
    model: str, prompt: str | Sequence[dict[str, Any]], sampling: Sampling | None = None, *, store: Store | None = None
) -> str:
    """One answer of ``base+adapter:weight+...`` to a prompt or to a list of messages."""
    base, worn = open_stack(store or Store(), model)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    tokens = prompt_ids(base.tokenizer, base.template, messages)
    return Engine(base).complete([Request(tokens, sampling or Sampling(), worn)])[0].text


def _finish(records: Iterable[Record], show: Show | None) -> Any:
    result: Any = None
    for record in records:
        if show is not None:
            show(record)
        if isinstance(record, Done):
            result = record.result
    return result
