"""Records to eyes: a progress bar and sentences for a person, JSON lines for a program."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from nomoat.cli.environment import Environment
from nomoat.core.amounts import duration, size
from nomoat.core.errors import Interrupted, NomoatError
from nomoat.core.records import Done, Eval, Note, Progress, Record, Sample, Saved, Step, as_json


def finished(records: Generator[Record], env: Environment, *, json_lines: bool) -> Done:
    """Show every record as it comes; return the last ``Done``. Raises ``NomoatError`` where there was none.

    Ctrl-C while we draw is handed back to where the work waits: what can go on later leaves a checkpoint there and
    comes out as ``Interrupted``, with the command that goes on. So does work whose records nobody reads any more.
    """
    done: Done | None = None
    screen: _Screen | _JsonLines = _JsonLines(env) if json_lines else _Screen(env)
    try:
        with screen:
            for record in records:
                screen.show(record)
                if isinstance(record, Done):
                    done = record
    except KeyboardInterrupt as stop:
        records.throw(stop)
        raise
    except BrokenPipeError as stop:
        raise _unread(records) from stop
    if done is None:
        raise NomoatError("the work ended without a result", hint="a fault of ours: please report the command")
    return done


def _unread(records: Generator[Record]) -> Interrupted:
    """Stop the work as Ctrl-C does."""
    hint = ""
    try:
        records.throw(KeyboardInterrupt())
    except Interrupted as stop:
        hint = stop.hint
    except KeyboardInterrupt:
        pass
    return Interrupted("stopped, for nobody reads the output any more", hint=hint)


class _JsonLines:
    def __init__(self, env: Environment) -> None:
        self._env = env

    def __enter__(self) -> _JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, record: Record) -> None:
        self._env.print(json.dumps(as_json(record), ensure_ascii=False, default=str))


class _Screen:
    """A rich progress bar on a terminal; a plain line at each quarter elsewhere."""

    def __init__(self, env: Environment) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._env = env
        self._console = Console(file=env.stderr, highlight=False, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
            disable=not env.talks_to_a_person,
        )
        self._stage = ""
        self._task: Any = None
        self._said_quarter = -1

    def __enter__(self) -> _Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, record: Record) -> None:
        match record:
            case Step():
                self._step(record)
            case Progress():
                self._move(record.stage, record.done, record.total, _so_far(record))
            case Eval():
                best = " (best so far)" if record.best else ""
                self._line(f"  step {record.step}: held-out loss {record.loss:.4f}{best}")
            case Note():
                self._line(("warning: " if record.warning else "") + record.text)
            case Saved():
                if record.what != "checkpoint":
                    self._line(f"saved {record.what}: {record.path}")
            case Sample() | Done():
                pass

    def _step(self, record: Step) -> None:
        detail = (
            f"{record.step}/{record.total_steps}  loss {record.loss:.3f}  "
            f"{record.tokens_per_second:.0f} tok/s  {duration(record.remaining_s)} left"
        )
        self._move("training", record.step, record.total_steps, detail)

    def _move(self, stage: str, done: float, total: float | None, detail: str) -> None:
        if stage != self._stage:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(stage, total=total, detail=detail)
            self._stage, self._said_quarter = stage, -1
        self._bar.update(self._task, completed=done, total=total, detail=detail)
        if not self._env.talks_to_a_person and total:
            quarter = int(4 * done / total)
            if quarter != self._said_quarter:
                self._said_quarter = quarter
                self._env.say(f"  {stage}: {detail}")

    def _line(self, text: str) -> None:
        if self._env.talks_to_a_person:
            self._console.print(text, markup=False)
        else:
            self._env.say(text)


def _so_far(record: Progress) -> str:
    """``31.2 MB of 93.8 MB``, ``16 of 61 rows``."""
    if record.unit == "B":
        return size(record.done) + (f" of {size(record.total)}" if record.total is not None else "")
    whole = f" of {record.total:,.0f}" if record.total is not None else ""
    return f"{record.done:,.0f}{whole} {record.unit}".rstrip()
