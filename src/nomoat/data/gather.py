"""Rows on their way into a data set: what each path held, cleaned in order, then split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

from nomoat.data import clean, report
from nomoat.data.load import SPLITS
from nomoat.data.read import Dropped, Reading
from nomoat.data.rows import Row, characters, kind_of, prompt_of, question_key
from nomoat.data.split import Thresholds, choose_thresholds

_LEAKS = (("valid", "test"), ("train", "test"), ("", "test"), ("train", "valid"), ("", "valid"))


class Gathered:
    """Rows by the split that their files named (``""`` where none), and the account of what was dropped."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.account = Reading()
        self.read = 0

    def take(self, reading: Reading) -> None:
        """Add what one path held."""
        account = self.account
        for split, rows in reading.splits.items():
            self.rows.setdefault(split, []).extend(rows)
        for dropped in reading.dropped.values():
            known = account.dropped.setdefault(dropped.reason, Dropped(dropped.reason, first=dropped.first))
            known.count += dropped.count
        account.kinds.update(reading.kinds)
        account.ignored_fields.update(reading.ignored_fields)
        account.whys += reading.whys
        account.files += reading.files
        account.aside += reading.aside
        self.read += len(reading.rows) + sum(dropped.count for dropped in reading.dropped.values())

    def settle_named_splits(self) -> None:
        """Without a train part a named split is a plain file; without a test part, valid serves as test."""
        if "train" not in self.rows:
            self.rows = {"": [row for rows in self.rows.values() for row in rows]}
        elif "valid" in self.rows and "test" not in self.rows:
            self.rows["test"] = self.rows.pop("valid")

    def deduplicate(self) -> None:
        """Keep the first of equal rows, held-out rows before others; then no prompt in two named splits."""
        seen = clean.Seen()
        for split in ("test", "valid", "train", ""):
            self._keep(split, seen.is_new, "duplicate")
        for later, earlier in _LEAKS:
            prompts = clean.prompt_keys(self.rows.get(earlier, ()))
            self._keep(later, _not_among(prompts), f"its prompt stands in the {earlier} part")

    def drop_asked(self, keys: set[str], where: str) -> None:
        """Drop the rows that ask a question of ``keys``; the test part stays as it is."""
        for split in ("valid", "train", ""):
            self._keep(split, lambda row: not clean.asks_any(row, keys), f"its question stands in {where}")

    def _keep(self, split: str, wanted: Callable[[Row], bool], reason: str) -> None:
        kept = []
        for row in self.rows.get(split, ()):
            if wanted(row):
                kept.append(row)
            else:
                self.account.drop(reason, report.shorten(row))
        if split in self.rows:
            self.rows[split] = kept

    def thresholds(self, *, valid: float, test: float, seed: int) -> Thresholds:
        """Thresholds for the rows that are to be split."""
        return choose_thresholds(self._to_split(), valid=valid, test=test, seed=seed)

    def _to_split(self) -> list[Row]:
        return self.rows.get("", []) + self.rows.get("train", [])

    def split(self, thresholds: Thresholds) -> dict[str, list[Row]]:
        """The three splits. To a part that the files gave, the hash adds no rows."""
        splits = {split: list(self.rows.get(split, ())) if split != "train" else [] for split in SPLITS}
        open_to = dataclasses.replace(
            thresholds,
            valid=0.0 if splits["valid"] else thresholds.valid,
            test=0.0 if splits["test"] else thresholds.test,
        )
        for row in self._to_split():
            splits[open_to.split_of(row)].append(row)
        return splits

    def report(self, name: str, splits: dict[str, list[Row]]) -> report.Report:
        """The account of what was read, kept and dropped."""
        rows = [row for split in SPLITS for row in splits[split]]
        account = self.account
        return report.Report(
            name=name,
            kind=account.kind,
            why=account.why,
            read=self.read,
            kept={split: len(splits[split]) for split in SPLITS},
            dropped=[dataclasses.asdict(dropped) for dropped in account.dropped.values()],
            shapes=dict(Counter(kind_of(row) for row in rows)),
            ignored_fields=dict(account.ignored_fields),
            aside=[str(path) for path in account.aside],
            repeated_prompts=clean.answered_differently(rows),
            characters=report.histogram(characters(row) for row in rows),
            examples=report.examples(splits["train"]),
        )


def _not_among(prompts: set[str]) -> Callable[[Row], bool]:
    return lambda row: question_key(prompt_of(row)) not in prompts
