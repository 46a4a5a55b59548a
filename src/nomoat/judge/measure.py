"""What a model does with rows: losses and answers. What the bare base does is kept, since it never changes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import nomoat
from nomoat.core.errors import NumericError, StorageError
from nomoat.core.files import write_json
from nomoat.core.records import Progress
from nomoat.core.store import Store
from nomoat.engine.generate import Engine, Request
from nomoat.engine.names import CACHE_FOLDER
from nomoat.engine.sampling import Sampling
from nomoat.engine.score import score
from nomoat.kernels.quick import quick_products
from nomoat.model.delta import Stack
from nomoat.model.load import Base
from nomoat.model.template import Encoded

T = TypeVar("T")
Measuring = Generator[Progress, None, T]

_ROWS_AT_ONCE = 16


@dataclasses.dataclass(frozen=True, slots=True)
class RowLoss:
    """Negative log-likelihood of a row's learned tokens together, in nats, and how many they are."""

    nll: float
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A base wearing a stack, perhaps none, and what to call it in progress bars."""

    base: Base
    stack: Stack
    word: str
    store: Store

    def remembered(self, what: str, asked: Any) -> Path | None:
        """Where a measurement of the bare base is kept; ``None`` for a stack, which is measured anew."""
        if self.stack:
            return None
        parts = [nomoat.__version__, self.base.fingerprint.exact, what, asked]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return self.store.home / CACHE_FOLDER / f"before-{digest[:32]}.json"


def losses(subject: Subject, rows: Sequence[Encoded], stage: str, *, rounded: bool = False) -> Measuring[list[RowLoss]]:
    """The loss of every row, ``rounded`` to bfloat16 where that is quicker. Raises ``NumericError`` for no number."""
    kept = subject.remembered("rounded losses" if rounded else "losses", [[row.ids, row.loss_mask] for row in rows])
    found = _recall(kept)
    if found is None:
        found = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            with quick_products(parts=1) if rounded else contextlib.nullcontext():
                scores = score(subject.base, rows[start : start + _ROWS_AT_ONCE], subject.stack)
            found += [[-one.total, len(one.logprobs)] for one in scores]
            yield Progress(f"{stage}, {subject.word}", len(found), len(rows), "rows")
        _check_numbers(found, subject)
        _keep(kept, found)
    return [RowLoss(float(nll), int(tokens)) for nll, tokens in found]


def answers(subject: Subject, prompts: Sequence[list[int]], *, max_tokens: int, max_batch: int) -> Measuring[list[str]]:
    """The greedy answer to every prompt (token ids)."""
    kept = subject.remembered("answers", [max_tokens, prompts])
    found = _recall(kept)
    if found is None:
        sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        requests = [Request(prompt, sampling, subject.stack) for prompt in prompts]
        texts, done = [""] * len(prompts), 0
        for piece in Engine(subject.base, max_batch=max_batch).stream(requests):
            texts[piece.index] += piece.text
            if piece.finish_reason is not None:
                done += 1
                yield Progress(f"answers, {subject.word}", done, len(prompts), "rows")
        found = texts
        _keep(kept, found)
    return [str(text) for text in found]


def _check_numbers(found: list[list[float]], subject: Subject) -> None:
    for number, (nll, _) in enumerate(found, start=1):
        if not math.isfinite(nll):
            raise NumericError(f"the loss of held-out row {number} is not a number {subject.word}")


def _recall(kept: Path | None) -> list[Any] | None:
    """What was kept; ``None`` where there is nothing or it cannot be read: it is measured again then."""
    if kept is None or not kept.is_file():
        return None
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    return found if isinstance(found, list) else None


def _keep(kept: Path | None, found: list[Any]) -> None:
    """What cannot be kept, on a full or a read-only disk, is measured again another time."""
    if kept is not None:
        with contextlib.suppress(StorageError):
            write_json(kept, found)
