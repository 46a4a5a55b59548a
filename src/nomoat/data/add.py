"""``data add``: files to a data set in the store. The files are read and never changed.

read -> drop what cannot teach -> drop exact duplicates -> drop what stands in held-out files -> split -> write

Splits that the files name are kept. Files with a train and a valid part but no test part give their valid part as the
test rows, since judging needs rows that choosing the checkpoint has not seen, and validation rows are split off the
train part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from nomoat.core.amounts import counted
from nomoat.core.errors import DataError, FormatError, UsageError
from nomoat.core.files import sha256_file, write_lines
from nomoat.core.options import option
from nomoat.core.records import Done, Note, Progress, Record, Saved
from nomoat.core.store import Lineage, Parent, Store, read_lineage, write_lineage
from nomoat.data import clean
from nomoat.data.gather import Gathered
from nomoat.data.load import SPLITS
from nomoat.data.read import Reading, ReadOptions, read
from nomoat.data.rows import Row
from nomoat.data.split import Thresholds

Measure = Callable[[list[Row]], dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class AddOptions(ReadOptions):
    """What goes into a data set and how it is split."""

    paths: tuple[str, ...] = option((), "files or folders to read")
    name: str = option("", "name of the data set", metavar="NAME")
    valid: float = option(0.05, "share of the rows that chooses the checkpoint, at most 200 rows")
    test: float = option(0.1, "share of the rows kept for judging before and after, at most 500 rows")
    seed: int = option(0, "another seed gives another split")
    split_like: str = option("", "split as this data set was split", metavar="NAME")
    held_out: tuple[str, ...] = option(
        (), "files whose questions must not be learned: rows that ask one are dropped", metavar="PATH,PATH"
    )
    licence: str = option("", "licence of the rows, for the record", metavar="TEXT")
    replace: bool = option(False, "put an older data set of this name aside; its split is kept")


def add(
    options: AddOptions, store: Store, *, measure: Measure | None = None, to_be_judged: bool = False
) -> Generator[Record]:
    """Read, clean, split and write a data set; the last record is ``Done`` with the report.

    ``measure`` counts the tokens of rows for the report (``encode.measure`` with a base). Raises ``DataError`` at the
    first malformed row, where no row is left to learn, and where rows ``to_be_judged`` leave none to judge with; then
    nothing is written.
    """
    _check(options, store)
    gathered = Gathered()
    for done, path in enumerate(options.paths):
        if len(options.paths) > 1:
            yield Progress("reading", done, len(options.paths), "paths")
        reading = read(path, options)
        yield Note(_said(path, reading))
        gathered.take(reading)
    gathered.settle_named_splits()
    gathered.deduplicate()
    for path in options.held_out:
        gathered.drop_asked(clean.held_out_keys(Path(path).expanduser()), path)
    thresholds, why = _thresholds(options, store, gathered)
    splits = gathered.split(thresholds)
    yield from [Note(why, warning=True)] if why else []
    _check_splits(splits, gathered, options, to_be_judged)
    yield from _warnings(splits)
    report = gathered.report(options.name, splits)
    if measure is not None:
        report = dataclasses.replace(report, tokens=measure([row for split in SPLITS for row in splits[split]]))
    lineage = _lineage(options, gathered.account.files, thresholds, report.as_json())
    with store.writing("data", options.name, replace=options.replace) as folder:
        _write(folder, splits)
        write_lineage(folder, lineage)
    target = store.path("data", options.name)
    yield Saved(target, "data set")
    yield Done("data", target, report.as_json())


def _check(options: AddOptions, store: Store) -> None:
    if not options.paths:
        raise UsageError("nothing to read", hint="nomoat data add FILE --name NAME")
    if not options.name:
        raise UsageError("the data set needs a name", hint="--name NAME")
    if store.path("data", options.name).exists() and not options.replace:
        raise UsageError(f"data/{options.name} exists already", hint="choose another --name, or pass --replace")
    for flag, share in (("--valid", options.valid), ("--test", options.test)):
        if not 0.0 <= share <= 0.5:
            raise UsageError(f"{flag} {share:g} is not a share between 0 and 0.5")


def _said(path: str, reading: Reading) -> str:
    why = f" ({reading.why})" if reading.why else ""
    return f"{path}: {counted(len(reading.rows), 'row')} of kind {reading.kind}{why}"


def _thresholds(options: AddOptions, store: Store, gathered: Gathered) -> tuple[Thresholds, str]:
    """The thresholds of the data set that is to be followed, or new ones; and what to warn of."""
    new = gathered.thresholds(valid=options.valid, test=options.test, seed=options.seed)
    if options.split_like:
        stored, _ = _stored(store.find("data", options.split_like))
        return stored, ""
    if not (options.replace and options.name in store.names("data")):
        return new, ""
    stored, asked = _stored(store.find("data", options.name))
    if asked == (options.valid, options.test, options.seed):
        return stored, ""
    return new, "other shares or another seed than before: rows may move between train, valid and test"


def _stored(folder: Path) -> tuple[Thresholds, tuple[Any, ...]]:
    """The thresholds of an older data set, and the shares and seed that were asked for."""
    lineage = read_lineage(folder)
    split = lineage.details.get("split") if lineage is not None else None
    if lineage is None or not isinstance(split, dict):
        raise FormatError("holds no record of how it was split", file=folder / "nomoat.json")
    try:
        values = Thresholds(float(split["valid"]), float(split["test"]), int(split["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"its record of the split is damaged: {error}", file=folder / "nomoat.json") from error
    return values, tuple(lineage.options.get(key) for key in ("valid", "test", "seed"))


def _check_splits(splits: dict[str, list[Row]], gathered: Gathered, options: AddOptions, to_be_judged: bool) -> None:
    paths = ", ".join(options.paths)
    if not splits["train"]:
        dropped = gathered.account.dropped.values()
        why = "; ".join(f"{each.count:,} dropped: {each.reason}, first {each.first}" for each in dropped)
        raise DataError("no row is left to learn" + (f": {why}" if why else ""), file=paths)
    if to_be_judged and not splits["test"]:
        kept = sum(map(len, splits.values()))
        raise DataError(
            f"{counted(kept, 'row')}: too few to judge with",
            file=paths,
            hint=f"give five or more, better a hundred; nomoat tune {paths} learns from these without judging",
        )


def _warnings(splits: dict[str, list[Row]]) -> Iterator[Note]:
    uses = {"valid": "choosing the best checkpoint", "test": "judging before and after"}
    for split, use in uses.items():
        if not splits[split]:
            yield Note(f"no {split} rows: {use} will not be possible", warning=True)


def _lineage(options: AddOptions, files: list[Path], thresholds: Thresholds, metrics: dict[str, Any]) -> Lineage:
    return Lineage(
        kind="data",
        name=options.name,
        licence=options.licence,
        parents=tuple(Parent("file", str(file), sha256_file(file)) for file in files),
        options=dataclasses.asdict(options),
        metrics=metrics,
        details={"split": dataclasses.asdict(thresholds)},
        seed=options.seed,
    )


def _write(folder: Path, splits: dict[str, list[Row]]) -> None:
    for split, rows in splits.items():
        write_lines(folder / f"{split}.jsonl", rows)
