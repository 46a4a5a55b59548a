"""The main job: a base and your examples to a measurably better model, with a receipt.

base -> rows -> what the base can do before -> tune -> what it can do after -> receipt

Each stage is a generator of records that another room owns; this file is their order, and what one hands the next.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from datetime import datetime

from nomoat.core.errors import Interrupted, NotFound, ResourceError, UsageError
from nomoat.core.records import Done, Note, Record, Saved
from nomoat.core.store import Store
from nomoat.evening.diary import Diary, diary_path, open_diary
from nomoat.evening.options import EveningOptions
from nomoat.evening.stages import base_stage, builtin_rows, curve, data_name, free_name, rows_stage, tune_stage

__all__ = ["EveningOptions", "builtin_rows", "evening", "resume_evening"]

RECEIPT_FILE = "receipt.html"
_JUDGING_SHARE = 1.3  # the second measurement takes about as long as the first, answers may be longer


def evening(options: EveningOptions, store: Store) -> Generator[Record]:
    """Run the whole way; the last record is ``Done("evening")`` with verdict, paths and figures.

    Raises what the stages raise. Wherever it is stopped, ``resume_evening`` goes on; ``Interrupted`` names the command.
    """
    _budget_s(options, 0.0)  # refused now, not after the download
    name = free_name(options, store)
    path = diary_path(store, name)
    if path.exists():
        yield Note(f"this starts afresh; `{_way_on(name)}` would go on with the evening that was stopped", warning=True)
    diary = Diary(path, options, name, data_name(options, name, store), store.names("runs"))
    diary.write()
    yield Note(f"if this is stopped, `{_way_on(name)}` goes on")
    yield from _go(diary, store)


def resume_evening(
    name: str, store: Store, *, minutes: float | None = None, finish_by: str | None = None
) -> Generator[Record]:
    """Go on with an evening that was stopped, the latest if no name is given.

    ``minutes`` from now, or ``finish_by``, take the place of the end that was asked for. Raises ``NotFound`` if there
    is none.
    """
    diary = open_diary(store, name)
    if minutes is not None or finish_by is not None:
        spent_s = sum(diary.seconds.values())
        whole = minutes + spent_s / 60 if minutes is not None else None
        diary.options = dataclasses.replace(diary.options, minutes=whole, finish_by=finish_by)
        _budget_s(diary.options, spent_s)
        diary.write()
    done = ", ".join(diary.results) or "nothing"
    yield Note(f"going on with the evening of {diary.name}; done before: {done}")
    yield from _go(diary, store)


def _go(diary: Diary, store: Store) -> Generator[Record]:
    try:
        yield from _stages(diary, store)
    except Interrupted as stop:
        raise Interrupted(stop.message, hint=_way_on(diary.name)) from stop
    except KeyboardInterrupt as stop:
        raise Interrupted("stopped by you", hint=_way_on(diary.name)) from stop
    except (NotFound, UsageError):
        if not diary.results:
            diary.close()  # going on with the same words would end here again
        raise


def _stages(diary: Diary, store: Store) -> Generator[Record]:
    from nomoat.judge.account import account
    from nomoat.judge.compare import before, judge
    from nomoat.judge.options import JudgeOptions
    from nomoat.judge.receipt import write_receipt

    clock, options = time.monotonic(), diary.options
    budget_s = _budget_s(options, sum(diary.seconds.values()))
    judged = JudgeOptions(
        model=f"{options.base}+{diary.name}",
        data=diary.data,
        check=options.check,
        limit=options.limit,
        forgetting=options.forgetting,
        seed=options.seed,
    )

    def minutes() -> float | None:
        return _minutes_to_tune(diary, budget_s, clock)

    yield from diary.keep("base", lambda: base_stage(options, store))
    yield from diary.keep("rows", lambda: rows_stage(options, diary.data, store))
    yield from diary.keep("before", lambda: before(judged, options.base, store))
    yield from diary.keep("tune", lambda: tune_stage(diary, store, minutes))
    yield from diary.keep("after", lambda: judge(judged, store))

    results = diary.results
    path = store.path("runs", results["tune"]["run"]) / RECEIPT_FILE
    steps, evals = curve(store, results["tune"]["run"])
    write_receipt(path, account(diary.name, store, results, steps, evals, diary.seconds, diary.warnings))
    diary.close()
    yield Saved(path, "receipt")
    result = {
        "name": diary.name,
        "verdict": results["after"]["verdict"],
        "judgement": results["after"],
        "tune": results["tune"],
        "seconds": diary.seconds,
        "receipt": str(path),
    }
    yield Done("evening", path, result)


def _way_on(name: str) -> str:
    return f"nomoat evening --resume {name}"


def _budget_s(options: EveningOptions, spent_s: float) -> float | None:
    """Seconds from now to the end that was asked for."""
    from nomoat.train.deadline import seconds_until

    if options.minutes is not None and options.finish_by is not None:
        raise UsageError("--minutes and --finish-by both say when to end", hint="give one of them")
    if options.finish_by is not None:
        return seconds_until(options.finish_by, datetime.now())
    return 60 * options.minutes - spent_s if options.minutes is not None else None


def _minutes_to_tune(diary: Diary, budget_s: float | None, clock: float) -> float | None:
    """What is left for training once the second measurement has its share; ``None`` where nobody is in a hurry."""
    if budget_s is None:
        return None
    left_s = budget_s - (time.monotonic() - clock) - _JUDGING_SHARE * diary.seconds["before"]
    if left_s < 60:
        raise ResourceError(
            f"{max(0.0, left_s):.0f} s would be left to train in, and a minute is the least",
            hint=f"{_way_on(diary.name)} --minutes N, with more; or start again with a lower --limit",
        )
    return left_s / 60
