"""A row as the model will see it, with what is learned marked."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from nomoat.model.template import Encoded
from nomoat.model.tokenizer import Tokenizer


class Segment(NamedTuple):
    """A run of text that is all learned, or all given."""

    text: str
    learned: bool


def segments(encoded: Encoded, tokenizer: Tokenizer) -> list[Segment]:
    """The row's tokens as text, cut where learning begins and ends; the first token has no loss."""
    learned = [False, *encoded.loss_mask[1:]]
    runs = itertools.groupby(zip(encoded.ids, learned), key=lambda pair: pair[1])
    return [
        Segment(b"".join(tokenizer.token_text(token) for token, _ in run).decode("utf-8", "replace"), mark)
        for mark, run in runs
    ]
