"""Any path to rows: finds the files, guesses the kind of row, says why, and stops at the first flaw.

A malformed row is an error that names its file, line and field. A well-formed row that cannot teach (an empty answer,
turns in an impossible order, a picture) is dropped and counted by reason. Nothing is skipped without a word.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nomoat.core.errors import DataError, UsageError
from nomoat.core.files import disk_errors
from nomoat.core.options import option
from nomoat.data import documents, kinds
from nomoat.data.convert import Raw
from nomoat.data.rows import Place, Row, check_text, defect
from nomoat.data.sources import Source, find

_A_ROW = 'a row is an object such as {"prompt": "...", "completion": "..."} or {"text": "..."}'


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read; every guess can be overruled."""

    format: str = option("auto", "kind of rows", choices=kinds.FORMATS)
    prompt_field: str = option("", "field that holds the prompt", metavar="FIELD")
    completion_field: str = option("", "field that holds the answer", metavar="FIELD")
    text_field: str = option("", "field that holds a text to be learned whole", metavar="FIELD")
    answer_after: str = option("", r"in text rows, what follows this mark is the answer: '\nA: '", metavar="MARK")
    passage: int = option(4000, "cut documents into passages of at most this many characters; 0: do not cut")
    dataset: str = option("", "which data set of a LLaMA-Factory folder", metavar="NAME")


@dataclasses.dataclass(slots=True)
class Dropped:
    """Rows dropped for one reason, and where the first of them stands."""

    reason: str
    count: int = 0
    first: str = ""

    def add(self, place: Place | str) -> None:
        self.count += 1
        self.first = self.first or str(place)


@dataclasses.dataclass(slots=True)
class Reading:
    """What a path held. ``splits`` has the key ``""`` where the files name no split."""

    splits: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    whys: list[str] = dataclasses.field(default_factory=list)
    ignored_fields: Counter[str] = dataclasses.field(default_factory=Counter)
    dropped: dict[str, Dropped] = dataclasses.field(default_factory=dict)
    files: list[Path] = dataclasses.field(default_factory=list)
    aside: list[Path] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """All rows, whatever their split."""
        return [row for rows in self.splits.values() for row in rows]

    @property
    def kind(self) -> str:
        """The kind, or the kinds where the files mix them, the commonest first."""
        return ", ".join(name for name, _ in self.kinds.most_common())

    @property
    def why(self) -> str:
        """What the guess rests on."""
        return "; ".join(dict.fromkeys(why for why in self.whys if why))

    def drop(self, reason: str, place: Place | str) -> None:
        """Count a dropped row."""
        self.dropped.setdefault(reason, Dropped(reason)).add(place)


def read(path: Path | str, options: ReadOptions | None = None) -> Reading:
    """Read a file or a folder. Raises ``DataError`` at the first row that is not well-formed."""
    options = options or ReadOptions()
    _check(options)
    path = Path(path).expanduser()
    with disk_errors(path):
        found = find(path, options.dataset)
    reading = Reading(whys=[found.why], aside=found.aside)
    for source in found.sources:
        reading.files.append(source.path)
        rows = reading.splits.setdefault(source.split, [])
        rows.extend(_document_rows(source, options, reading) if source.is_document else ())
        rows.extend(() if source.is_document else _table_rows(source, options, reading))
    if not any(reading.kinds.values()):
        raise DataError("holds no rows", file=path, hint=_A_ROW)
    return reading


def _check(options: ReadOptions) -> None:
    if bool(options.prompt_field) != bool(options.completion_field):
        raise UsageError("--prompt-field and --completion-field go together")
    if options.text_field and options.prompt_field:
        raise UsageError("--text-field and --prompt-field exclude each other")
    if options.format != "auto" and (options.text_field or options.prompt_field):
        raise UsageError("--format and the --...-field options exclude each other")


def _document_rows(source: Source, options: ReadOptions, reading: Reading) -> Iterator[Row]:
    path, place = source.path, Place(str(source.path))
    text = check_text(documents.read_document(path), place, "text")
    reading.kinds["document"] += 1
    reading.whys.append(f"{path.suffix} files are documents")
    if not text.strip():
        reading.drop("no text in the document", place)
    for passage in documents.passages(text, options.passage):
        yield from _usable([{"text": passage}], place, options, reading)


def _table_rows(source: Source, options: ReadOptions, reading: Reading) -> Iterator[Row]:
    guess: kinds.Guess | None = None
    for row, (line, raw) in enumerate(source.raw_rows(), start=1):
        place = Place(str(source.path), line, row)
        if not isinstance(raw, dict):
            raise place.error(f"a row must be an object, not {type(raw).__name__}", hint=_A_ROW)
        if source.mapping is not None:
            raw = source.mapping.apply(raw)
        if not (options.prompt_field or options.text_field):
            raw = kinds.in_lower_case(raw)
        guess = _guess(guess, raw, place, options)
        reading.kinds[guess.kind.name] += 1
        reading.ignored_fields.update(guess.ignored(raw))
        if kinds.needs_media(raw):
            reading.drop("needs a picture or sound", place)
            continue
        yield from _usable(guess.convert(raw, place), place, options, reading)
    if guess is not None:
        reading.whys.append(guess.fit.why)


def _guess(last: kinds.Guess | None, raw: Raw, place: Place, options: ReadOptions) -> kinds.Guess:
    """The kind of this row: the user's, or the first that fits, or that of the rows before (which will complain)."""
    if options.prompt_field:
        return kinds.by_fields(options.prompt_field, options.completion_field)
    if options.text_field:
        return kinds.by_text_field(options.text_field)
    if options.format != "auto":
        return kinds.named(options.format, raw)
    guess = kinds.guess(raw) or last
    if guess is None:
        raise kinds.unknown(raw, place)
    return guess


def _usable(rows: list[Row], place: Place, options: ReadOptions, reading: Reading) -> Iterator[Row]:
    for row in rows:
        if options.answer_after and "text" in row:
            row = _split_text(row["text"], options.answer_after, place)
        reason = defect(row)
        if reason is None:
            yield row
        else:
            reading.drop(reason, place)


def _split_text(text: str, mark: str, place: Place) -> Row:
    mark = mark.replace("\\n", "\n").replace("\\t", "\t")
    before, found, after = text.partition(mark)
    if not found:
        raise place.error(f"does not hold the mark {mark!r} of --answer-after", field="text")
    return {"prompt": before + mark, "completion": after}
