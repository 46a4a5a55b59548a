"""A reward model: pairs of a better and a worse answer, and Bradley and Terry's loss on their rewards.

Two rows a pair, the better first; its last token alone is marked, so that what is counted as learned are pairs. The
loss of a pair is ``-log sigmoid(reward of the better - reward of the worse)`` (Ouyang et al. 2022, arXiv 2203.02155,
equation 1). The pairs lie beside a data set's rows:

    data/<name>/train.pairs.jsonl, valid.pairs.jsonl      rows of prompt, chosen, rejected
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nomoat.core.errors import NotFound
from nomoat.data.encode import EncodedSet
from nomoat.data.pack import Packed, pack
from nomoat.data.preferences import read_preferences
from nomoat.data.report import histogram
from nomoat.engine.names import Worn
from nomoat.engine.reward import conversation_ids, last_hidden
from nomoat.kernels.memory import Pool
from nomoat.model.adapters import SCORE, Adapter
from nomoat.model.cache import Layout
from nomoat.model.load import Base
from nomoat.model.template import Encoded
from nomoat.train.prefix import Prefix
from nomoat.train.sft import SftBatches
from nomoat.train.state import HeldOut, Task

PAIR: Final = 2
PAIRS_FILES: Final = {split: f"{split}.pairs.jsonl" for split in ("train", "valid")}


def encode_pairs(folder: Path, split: str, base: Base, max_seq_len: int) -> EncodedSet:
    """The pairs of a split, two rows each; a pair with an answer that is too long is left out.

    Raises ``NotFound`` where the data set has no pairs, ``DataError`` at a row that is none.
    """
    path = folder / PAIRS_FILES[split]
    if not path.is_file():
        raise NotFound(
            f"data set {folder.name!r} holds no pairs to learn a reward from",
            hint="nomoat school JUDGE PAIRS --kind reward --name NAME",
        )
    rows: list[Encoded] = []
    sources: list[int] = []
    lengths: list[int] = []
    pairs = read_preferences(path) if path.stat().st_size else []
    for number, pair in enumerate(pairs):
        sides = [conversation_ids(base, pair.messages, text) for text in (pair.chosen, pair.rejected)]
        lengths += map(len, sides)
        if max(map(len, sides)) <= max_seq_len:
            rows += [_row(ids, marked=better) for ids, better in zip(sides, (True, False))]
            sources += [number] * PAIR
    dropped = len(pairs) - len(rows) // PAIR
    why = {f"a pair of more than {max_seq_len} tokens": dropped} if dropped else {}
    return EncodedSet(rows, sources, why, truncated=0, windowed=0, histogram=histogram(lengths))


def _row(ids: list[int], *, marked: bool) -> Encoded:
    return Encoded(ids, [*[False] * (len(ids) - 1), marked])


def reward_task(
    base: Base,
    adapter: Adapter,
    batches: SftBatches,
    held_out: Sequence[Encoded],
    prefix: Prefix | None = None,
    under: Worn = (),
    *,
    head_alone: bool = False,
) -> Task[Packed]:
    """Learning rewards with ``adapter`` and its head, or with the head alone, as the loop wants it."""
    stack = (*under, (adapter, 1.0))
    pieces = pack(held_out, batches.pack_tokens, group=PAIR)

    def loss(piece: Packed) -> Tensor:
        below = prefix(piece) if prefix is not None else None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not head_alone):
            hidden = base.decoder(piece.tokens, Layout(piece.lengths), stack, below=below)
        assert adapter.score is not None  # a job of this method makes one
        found = last_hidden(hidden, piece.lengths) @ adapter.score[0]  # (n,)
        if len(found) % PAIR:  # a probe of the speed may end inside a pair
            found = torch.cat([found, found.new_zeros(1)])
        return -logsigmoid(found[::PAIR] - found[1::PAIR]).sum()

    @torch.no_grad()
    def evaluate() -> HeldOut:
        with Pool():
            total = math.fsum(loss(piece).item() for piece in pieces)
        return HeldOut(total / (len(held_out) // PAIR), len(held_out) // PAIR)

    parameters = adapter.parameters()
    if head_alone:
        parameters = {name: each for name, each in parameters.items() if name.endswith(f".{SCORE}.weight")}
    return Task(parameters, batches, loss, evaluate if pieces else None)
