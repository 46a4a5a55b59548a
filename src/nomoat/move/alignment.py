"""What a teacher thought of a text, in the tokens of a student that cuts the text otherwise.

Where both cut out the same bytes, the teacher's likeliest tokens become the student's of the same bytes, and what has
none joins the rest, which the loss takes as one (``kernels/divergence.py``). Anywhere else the student learns the text
alone. FuseLLM (Wan et al. 2024, arXiv 2401.10491, section 3.2) matches tokens by least edit distance, ULD (Boizard et
al. 2024, arXiv 2402.12030, section 3) sorted probabilities without their tokens; here nothing is matched that does
not say the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch

from nomoat.kernels.divergence import Target
from nomoat.model.template import Encoded
from nomoat.model.tokenizer import Tokenizer

Span = tuple[int, int]


class Alignment:
    """From one tokenizer's tokens to another's. ``alike`` of ``learned`` tokens that were asked for were cut alike."""

    def __init__(self, old: Tokenizer, new: Tokenizer) -> None:
        self._old, self._new = old, new
        plain = [token for token in range(new.vocab_size) if token not in new.specials.values()]
        self._by_text = {text: token for token in reversed(plain) if (text := new.token_text(token))}
        self._known: dict[int, int | None] = {}
        self.alike = self.learned = 0

    def target(self, old: Encoded, new: Encoded, thought: Target) -> Target:
        """``thought`` of the tokens that ``old`` learns, (m, K), for those that ``new`` learns of one text, (n, K)."""
        theirs, ours = old.learned, new.learned
        before, after = _spans(theirs, self._old), _spans(ours, self._new)
        same = _text(theirs, self._old) == _text(ours, self._new)
        places = {span: place for place, span in enumerate(before)} if same else {}
        k = min(thought.ids.shape[1], self._new.vocab_size)
        rows = []
        for token, span in zip(ours, after, strict=True):
            moved: dict[int, float] = {}
            if (place := places.get(span)) is not None:
                pairs = zip(thought.ids[place].tolist(), thought.logprobs[place].tolist(), strict=True)
                moved = self._moved(dict(pairs), theirs[place], token)
            self.alike += bool(moved)
            rows.append(moved or {token: 1.0})
        self.learned += len(ours)
        filled = [list(itertools.islice(_filled(row, self._new.vocab_size), k)) for row in rows]
        ids = torch.tensor([[token for token, _ in row] for row in filled], dtype=torch.long).view(-1, k)
        return Target(ids, torch.tensor([[value for _, value in row] for row in filled]).view(-1, k))

    def _moved(self, logprobs: dict[int, float], theirs: int, ours: int) -> dict[int, float]:
        """Probabilities by the student's tokens; the text's own token is told by its place, and ends by their kind."""
        ends = self._old.eos_ids if theirs in self._old.eos_ids else frozenset[int]()
        moved: dict[int, float] = {}
        for token, logprob in logprobs.items():
            there = ours if token == theirs or token in ends else self._same_text(token)
            if there is not None:
                moved[there] = moved.get(there, 0.0) + math.exp(logprob)
        return moved

    def _same_text(self, token: int) -> int | None:
        if token not in self._known:
            plain = token not in self._old.specials.values()
            self._known[token] = self._by_text.get(self._old.token_text(token)) if plain else None
        return self._known[token]


def _text(tokens: list[int], tokenizer: Tokenizer) -> bytes:
    return b"".join(_piece(token, tokenizer) for token in tokens)


def _piece(token: int, tokenizer: Tokenizer) -> bytes:
    """The bytes of a token; every end of a turn as the one byte that no text has."""
    return b"\xff" if token in tokenizer.eos_ids else tokenizer.token_text(token)


def _spans(tokens: list[int], tokenizer: Tokenizer) -> list[Span]:
    """Where each token begins and ends, in bytes."""
    ends = list(itertools.accumulate(len(_piece(token, tokenizer)) for token in tokens))
    return list(itertools.pairwise([0, *ends]))


def _filled(row: dict[int, float], vocab_size: int) -> Iterator[tuple[int, float]]:
    """Tokens with their log-probabilities, the likeliest first, then the vocabulary's last, which nobody says, at 0."""
    for token, share in sorted(row.items(), key=lambda item: -item[1]):
        yield token, min(0.0, math.log(share)) if share > 0 else -math.inf
    for token in range(vocab_size - 1, -1, -1):
        if token not in row:
            yield token, -math.inf
