"""Labelled pairs as rows that teach a judge: its own question in both orders, answered by the letter it should say.

A pair's prompt decides whether it is learned, chooses the checkpoint or is kept for the exam, so that no question
stands on two sides. Planted attacks join what is learned (``planted``). Where the better answer is mostly the longer
one a judge learns length and nothing else; so as many pairs are learned of the one kind as of the other.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nomoat.core.errors import DataError
from nomoat.core.files import sha256_file, write_lines
from nomoat.core.store import Lineage, Parent, Store, write_lineage
from nomoat.data.preferences import Preference, read_preferences
from nomoat.data.rows import Message, Row
from nomoat.data.split import Thresholds, choose_thresholds, position_of
from nomoat.judge.exam import FEWEST_PAIRS
from nomoat.judge.pairwise import LETTERS, Pair, question
from nomoat.judge.planted import planted
from nomoat.judge.rated import holds_ratings, rated_pairs
from nomoat.judge.topics import pair_of
from nomoat.judge.votes import votes
from nomoat.train.reward import PAIRS_FILES

VOTES: Final = "votes:"
EXAM_FILE: Final = "exam.jsonl"
SPLITS: Final = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Lessons:
    """Pairs to learn, to choose the checkpoint by, and for the exam; ``left_out`` would have taught length."""

    learned: list[Preference]
    chosen_by: list[Preference]
    examined: list[Preference]
    left_out: int = 0


def read_pairs(store: Store, source: str) -> list[Preference]:
    """Labelled pairs of a file or folder, of a file of rated answers, or of ``votes:ARENA``: votes that have a winner.

    Raises ``DataError`` where there are none.
    """
    if not source.startswith(VOTES):
        path = Path(source).expanduser()
        return rated_pairs(path) if holds_ratings(path) else read_preferences(path)
    arena = source.removeprefix(VOTES)
    found = []
    for vote in votes(store, arena):
        sides = [(answer.text, *answer.later) for answer in (vote.answer_a, vote.answer_b)]
        if vote.winner in ("model_a", "model_b") and sides[0] != sides[1]:
            better, worse = sides if vote.winner == "model_a" else sides[::-1]
            pair = pair_of(vote.topic, len(vote.later), better, worse)
            found.append(Preference(pair.messages, pair.first, pair.second))
    if not found:
        raise DataError(f"arena {arena!r} holds no vote with a winner", hint=f"nomoat arena A B --name {arena}")
    return found


def lessons_of(
    pairs: Sequence[Preference], *, test: float, seed: int, attacks: float = 0.0, balance: bool = True
) -> Lessons:
    """Split by prompt; plant ``attacks`` among what is learned, as a share of it, and balance it.

    Raises ``DataError`` where too few are left to learn or to ask.
    """
    asked = [_prompt(each.messages) for each in pairs]
    thresholds: Thresholds = choose_thresholds(asked, valid=0.1, test=test, seed=seed)
    parts: dict[str, list[Preference]] = {split: [] for split in SPLITS}
    for each, row in sorted(zip(pairs, asked), key=lambda both: position_of(both[1], seed)):
        parts[thresholds.split_of(row)].append(each)
    offered = parts["train"] + planted(parts["train"], attacks, seed)
    learned = _balanced(offered, seed) if balance else offered
    if len(parts["test"]) < FEWEST_PAIRS or not learned:
        raise DataError(
            f"{len(pairs)} pairs leave {len(learned)} to learn and {len(parts['test'])} for the exam, "
            f"which takes {FEWEST_PAIRS}",
            hint="more labelled pairs, or a larger --held-out",
        )
    return Lessons(learned, parts["valid"], parts["test"], len(offered) - len(learned))


def rows_of(pairs: Sequence[Preference]) -> list[Row]:
    """Two rows a pair: the better answer first, and second."""
    rows: list[Row] = []
    for each in pairs:
        pair = Pair(each.messages, each.chosen, each.rejected)
        for asked, letter in zip((pair, pair.swapped()), LETTERS):
            rows.append({"messages": [*question(asked), {"role": "assistant", "content": letter}]})
    return rows


def write_lessons(
    store: Store, name: str, lessons: Lessons, source: str, options: dict[str, Any], *, replace: bool
) -> Path:
    """A data set of the rows, with the pairs beside them: for a reward model, and for who repeats the exam."""
    parts = (lessons.learned, lessons.chosen_by, lessons.examined)
    path = Path(source).expanduser()
    lineage = Lineage(
        kind="data",
        name=name,
        parents=(Parent("file", str(path), sha256_file(path)),) if path.is_file() else (),
        options=options,
        metrics={split: len(part) for split, part in zip(SPLITS, parts)},
        details={"labelled pairs": source},
    )
    with store.writing("data", name, replace=replace) as folder:
        for split, part in zip(SPLITS, parts):
            write_lines(folder / f"{split}.jsonl", rows_of(part))
        for split, part in zip(PAIRS_FILES, parts):
            write_lines(folder / PAIRS_FILES[split], [_as_row(each) for each in part])
        write_lines(folder / EXAM_FILE, [_as_row(each) for each in lessons.examined])
        write_lineage(folder, lineage)
    return store.path("data", name)


def _as_row(each: Preference) -> Row:
    said = [[{"role": "assistant", "content": text}] for text in (each.chosen, each.rejected)]
    return {"prompt": list(each.messages), "chosen": said[0], "rejected": said[1]}


def _prompt(messages: Sequence[Message]) -> Row:
    return {"prompt": "\n".join(str(message["content"]) for message in messages), "completion": ""}


def _balanced(pairs: Sequence[Preference], seed: int) -> list[Preference]:
    """As many whose better answer is the longer as whose is the shorter; pairs of one length are kept."""
    longer = [place for place, each in enumerate(pairs) if len(each.chosen) > len(each.rejected)]
    shorter = [place for place, each in enumerate(pairs) if len(each.chosen) < len(each.rejected)]
    if not longer or not shorter:
        return list(pairs)
    many = max(longer, shorter, key=len)
    dropped = set(random.Random(seed).sample(many, abs(len(longer) - len(shorter))))
    return [each for place, each in enumerate(pairs) if place not in dropped]
